"""Files, stores and libraries behind the ports."""
