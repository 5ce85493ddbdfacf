"""What people would use instead: two FastAPI apps that serve the same package without scorecat."""
