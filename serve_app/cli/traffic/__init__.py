"""Commands: predict, replay, events."""
