"""Batch jobs: requests, records and reports."""
