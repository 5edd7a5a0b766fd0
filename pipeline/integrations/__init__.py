"""Trainings in other tools: TensorBoard, MLflow, Weights & Biases."""
