"""A Ray cluster on this machine: start, stop, ports and processes."""
