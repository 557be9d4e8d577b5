"""The history of what the camera saw, on disk: states by the minute, and events."""
