"""From a face to the scores of its expression."""
