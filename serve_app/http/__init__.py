"""HTTP: routes, request bodies, problem details. Knows nothing of Ray."""
