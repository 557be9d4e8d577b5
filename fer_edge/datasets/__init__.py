"""Labelled images: reading and combining datasets."""
