"""Other tools that show trainings: TensorBoard, MLflow, W&B."""
