"""Make a BiLSTM student with the tokenizer, and perhaps the word embeddings, of another model."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from stages.corpus.tokenizer import load_tokenizer
from stages.models.bilstm.model import BilstmConfig, BilstmForSequenceClassification
from stages.models.bilstm.separators import frame_of_pairs
from stages.specs.student import Bilstm


def new_bilstm(
    start: Bilstm, directory: Path, pair: bool, head: Mapping[str, object], tokens: int, table_VE: Tensor | None
) -> BilstmForSequenceClassification:
    """The BiLSTM of ``start`` before its first step, in float32, with weights of torch's generator.

    ``directory`` has the tokenizer that it reads, and ``tokens`` is the size of the vocabulary; ``table_VE`` are the
    word embeddings to copy, None for random ones; ``head`` are the fields of a configuration that define the
    classifier. Raises ValueError if pairs are to be read and the tokenizer does not separate them.
    """
    leading, separator = frame_of_pairs(load_tokenizer(directory))
    if pair and separator is None:
        raise ValueError(f"tokenizer: {directory} holds one that puts no token between the texts of a pair")
    width = start.width if table_VE is None else table_VE.shape[1]
    projected = None if table_VE is None else start.width
    assert width is not None
    config = BilstmConfig(
        vocab_size=tokens,
        embedding_size=width,
        projected_size=projected,
        hidden_size=start.hidden,
        lstm_layers=start.layers,
        fc_size=start.fc,
        dropout=start.dropout,
        pair=pair,
        separator_id=separator,
        leading_tokens=leading,
    )
    config.update(dict(head))
    model = cast(
        BilstmForSequenceClassification, BilstmForSequenceClassification._from_config(config, dtype=torch.float32)
    )
    if table_VE is not None:
        with torch.no_grad():
            model.encoder.word_embeddings.weight.copy_(table_VE)
    return model
