"""Features of a row: what they are, how they are encoded, what is refused."""
