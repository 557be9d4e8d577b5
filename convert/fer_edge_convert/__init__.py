"""Workstation: a Keras model in, a quantised .tflite and its parity with the original out."""
