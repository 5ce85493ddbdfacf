"""Commands: models, aliases."""
