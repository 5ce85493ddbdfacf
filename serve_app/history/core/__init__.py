"""Rules and computations, pure."""
