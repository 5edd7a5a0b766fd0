"""Sentence encoders that follow the stored sentence embeddings of another one, on texts without labels."""
