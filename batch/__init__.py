"""Large batch scoring through the same deployments that answer online requests."""
