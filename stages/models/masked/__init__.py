"""Masked language models: built and run (``language_model``), and the token ids that masking needs (``token_ids``)."""
