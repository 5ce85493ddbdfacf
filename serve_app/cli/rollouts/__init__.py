"""Commands: rollout, shadow, simulate."""
