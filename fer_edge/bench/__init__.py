"""Benchmarks of a face and of a frame on this machine, with results that can be defended and compared."""
