"""Clocks, rounds, micro-batches, logs and how values are shown: ground that no capability owns."""
