"""Canaries: plans, decisions, promotion and rollback."""
