"""Pure rules of scorecat: no I/O, no clock, no randomness, no Ray, no pydantic."""
