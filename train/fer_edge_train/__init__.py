"""Workstation: pictures in, a trained Keras model and its report out."""
