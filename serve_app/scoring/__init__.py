"""From rows to answers: routes, version splits, shadows, tables."""
