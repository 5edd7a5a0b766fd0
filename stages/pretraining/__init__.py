"""Masked language models: their training on unlabelled texts."""
