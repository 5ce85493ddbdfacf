"""Serve applications of versions and pools, and what starts jobs."""
