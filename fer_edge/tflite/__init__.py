"""TFLite files: running and inspecting them."""
