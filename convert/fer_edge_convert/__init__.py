"""Workstation: a Keras model in, a quantized .tflite and its parity with the original out."""
