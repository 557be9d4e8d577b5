"""Installing, upgrading, deploying and removing the service."""
