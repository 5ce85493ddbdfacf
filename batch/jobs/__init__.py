"""What runs a batch job: scoring of one unit, and Ray Data around it."""
