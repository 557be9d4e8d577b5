"""The card in every model file."""
