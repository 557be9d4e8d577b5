"""A page that shows what a runner sees, and the API behind it."""
