"""Workstation: images in, a trained Keras model and its report out."""
