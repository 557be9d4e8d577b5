"""Reading video files: upright grey frames with the times of the container."""
