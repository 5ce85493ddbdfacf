"""Commands: features, warm start."""
