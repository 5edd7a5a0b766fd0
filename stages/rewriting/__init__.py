"""New texts made from the rows of train: word substitution, masked language models, back-translation."""
