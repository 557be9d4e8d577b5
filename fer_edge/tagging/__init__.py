"""Tagging old images and videos in bulk: much in, a table of faces out."""
