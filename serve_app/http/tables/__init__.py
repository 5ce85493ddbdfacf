"""Many rows: MLflow, Open Inference Protocol and bulk bodies."""
