"""The configuration: its settings and how the file is edited."""
