"""Forms of models that can be converted: each is read as a float ``.tflite``."""
