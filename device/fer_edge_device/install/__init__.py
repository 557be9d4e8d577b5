"""Install, upgrade and remove the service, on this host and on others over ssh."""
