"""Sentence encoders in the form of sentence-transformers: what their files say (``modules``, which imports no torch),
and the models themselves."""

from stages.models.sentences.modules import (
    SENTENCE_CLASS,
    SentenceModules,
    is_sentence_encoder,
    most_tokens,
    read_modules,
    sentence_modules,
    write_modules,
)

__all__ = [
    "SENTENCE_CLASS",
    "SentenceModules",
    "is_sentence_encoder",
    "most_tokens",
    "read_modules",
    "sentence_modules",
    "write_modules",
]
