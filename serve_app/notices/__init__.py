"""What is told to other systems: addresses, webhooks and the outbox that remembers them."""
