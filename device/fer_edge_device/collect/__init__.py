"""Crops of faces that are kept for a person's review, encrypted for a key that the node does not have."""
