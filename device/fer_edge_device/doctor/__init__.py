"""Checks of everything that the service needs."""
