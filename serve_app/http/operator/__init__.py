"""Rollouts and jobs."""
