"""Ray: thin Serve deployments around plain classes, their options, the local cluster."""
