"""Facial-expression recognition for a Raspberry Pi: what every part of fer-edge shares."""
