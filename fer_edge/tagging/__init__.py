"""Tag images and videos in bulk: the result is a table with a row for each face."""
