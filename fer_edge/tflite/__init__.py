"""Running and inspecting TFLite models."""
