"""Labelled images and how they are read."""
