"""Small trainings of masked language models for tests: rows of random tokens and a BERT with some thousand weights."""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_setups import CLASSES, WORDS, LocalWorker, random_rows
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from stages.corpus.rowset import read_rowset
from stages.models.masked.token_ids import TokenIds, ids_for_masking
from stages.pretraining.loop import MaskedTraining
from stages.pretraining.masked_objective import MaskedSetup
from stages.pretraining.progress import HeldOutScore, PretrainingProgress
from stages.specs.pretraining import PretrainSpec
from stages.specs.tasks import HOLDOUT, TRAIN

TOKENS = TokenIds(WORDS - 1, np.array([0, WORDS - 1]), np.arange(1, WORDS - 1))


def small_masked_model(
    seed: int = 0, dropout: float = 0.1, width: int = 16, layers: int = 2, words: int = WORDS
) -> BertForMaskedLM:
    """A random BERT that predicts tokens."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
    )
    return BertForMaskedLM(config)


def masked_setup(
    checkpoint: Path, seconds: float = 0.5, teacher: PreTrainedModel | None = None, **spec: object
) -> MaskedSetup:
    """A training on 26 rows in batches of 4, with 12 held out, and a clock that advances by a second whenever it is
    read."""
    settings = PretrainSpec(**{"batch_size": 4, "epochs": 3, "learning_rate": 3e-3, **spec})
    texts, held_out = random_rows(CLASSES, 26, seed=1), random_rows(CLASSES, 12, seed=2)
    clock = count()
    return MaskedSetup(
        settings, texts, held_out, checkpoint, seconds, lambda: float(next(clock)), tokens=TOKENS, teacher=teacher
    )


def results(progress: PretrainingProgress) -> list[tuple[int, int, float, float, float]]:
    """(epoch, steps, loss, held-out loss, accuracy) of each epoch: the history without its seconds."""
    return [
        (epoch.epoch, epoch.steps, epoch.loss, epoch.held_out.loss, epoch.held_out.accuracy)
        for epoch in progress.history
    ]


def held_out_score(model: PreTrainedModel, tokenizer: Any, spec: PretrainSpec, texts: Path) -> HeldOutScore:
    """The score of a model on the held-out texts in the scratch folder ``texts`` of a training."""
    rows, held_out = read_rowset(texts, TRAIN), read_rowset(texts, HOLDOUT)
    tokens = ids_for_masking(tokenizer, model.config.vocab_size)
    setup = MaskedSetup(spec, rows, held_out, texts / "none.pt", tokens=tokens)
    return MaskedTraining(model, setup, LocalWorker()).held_out_score()
