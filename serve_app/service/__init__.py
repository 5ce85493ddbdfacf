"""Use cases; they reach the outside through the protocols in `ports`."""
