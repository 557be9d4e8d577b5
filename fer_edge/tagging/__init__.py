"""Tagging old pictures and films in bulk: much in, a table of faces out."""
