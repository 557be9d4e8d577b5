"""Following faces over time."""
