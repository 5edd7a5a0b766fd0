"""Rows of a task -> tokens: sources, splits, labels, the leakage guard, row sets and batches."""
