"""Device: camera frames in, expression messages out."""
