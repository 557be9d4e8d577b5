"""Training of the face detector and of its second stage, the refiner."""
