"""Workstation: train Keras models from images, and report how good they are."""
