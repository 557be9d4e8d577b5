"""What happened in front of the camera, kept on disk: by the minute, and event by event."""
