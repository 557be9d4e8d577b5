"""Writing tables, sidecars and reports."""
