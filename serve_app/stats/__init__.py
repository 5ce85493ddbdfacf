"""Intervals, stability indices, drift and the figures of classifiers: ground that no capability owns."""
