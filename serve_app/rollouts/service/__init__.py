"""Use cases, against ports."""
