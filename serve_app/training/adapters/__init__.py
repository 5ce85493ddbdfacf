"""Training on this machine, into a registry."""
