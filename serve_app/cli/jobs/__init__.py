"""Commands: jobs, score, backtest, evaluate."""
