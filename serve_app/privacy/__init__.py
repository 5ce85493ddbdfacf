"""Pseudonyms in place of ids, and the secret that makes them."""
