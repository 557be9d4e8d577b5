"""Finding faces in images."""
