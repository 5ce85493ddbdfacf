"""scorecat: a distributed scoring cluster for CatBoost models on tabular data."""

__version__ = "0.1.0"
