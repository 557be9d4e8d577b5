"""Finding faces in grey images."""
