"""Events of a shop: what one is, logs of them, generated ones."""
