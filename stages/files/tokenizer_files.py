"""The files in which a tokenizer is saved beside a model."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
)
"""The files that decide which tokens a text becomes: the identity of a tokenizer is that of those which are there."""

TOKENIZER_PATTERNS = (*TOKENIZER_FILES, "*.model", "chat_template.jinja")
"""What is copied or fetched of a tokenizer: also vocabularies under further names, such as DeBERTa's ``spm.model``, and
what no text of a classifier depends on. They are not part of its identity, or keys would change."""
