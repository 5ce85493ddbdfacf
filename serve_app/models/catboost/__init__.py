"""What knows CatBoost."""
