"""Commands: Event logs replayed and loaded through the client."""
