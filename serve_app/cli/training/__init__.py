"""Commands: train, data."""
