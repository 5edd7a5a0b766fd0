"""Embeddings of a bank, the index over them, and search in it."""
