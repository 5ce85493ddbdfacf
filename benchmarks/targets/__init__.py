"""What people would use instead: FastAPI apps and other frameworks that serve the same package without scorecat."""
