"""Classifying the expressions of faces."""
