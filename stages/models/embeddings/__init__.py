"""Word embeddings: the table from token ids to vectors (``words``), a model's inputs with embeddings in the place of
tokens (``inputs``), and whether two models' tables are of the same tokens (``vocabulary``, which imports no torch)."""
