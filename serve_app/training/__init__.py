"""Training, retraining and the assessment of a model."""
