"""What a batch job decides, as pure functions: plan, columns, results, counts, pace."""
