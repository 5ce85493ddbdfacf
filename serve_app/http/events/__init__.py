"""Events that shops send."""
