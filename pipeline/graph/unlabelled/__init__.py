"""Nodes that read unlabelled texts: the bank of a recipe, and masked language models."""
