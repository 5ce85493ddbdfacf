"""Calls between replicas, past Ray where that is faster."""
