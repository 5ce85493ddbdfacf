"""Model packages: manifests, imports, proofs and the registry."""
