"""The path of one frame."""
