"""One row: the hot route."""
