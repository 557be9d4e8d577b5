"""The configuration: its keys, and how a file is loaded, written and edited."""
