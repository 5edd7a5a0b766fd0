"""Metrics and predictions of models and ensembles."""
