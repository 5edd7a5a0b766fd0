"""The inputs of rows, from which batches are made: the protocol, tokens, and tokens of words."""
