"""The card that every model file carries."""
