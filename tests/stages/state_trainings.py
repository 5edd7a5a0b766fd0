"""Small trainings on stored states for tests: rows of random tokens, BERTs with some thousand weights and no head, and
the pooled states of one of them."""

from itertools import count
from pathlib import Path

import numpy as np
import torch
from training_setups import CLASSES, WORDS, InMemoryColumns, LocalWorker, random_rows
from transformers import BertConfig, BertModel

from stages.corpus.rowset import Rowset
from stages.pretraining.loop import Pretraining
from stages.pretraining.state_objective import StateObjective, StateSetup
from stages.specs.layers import state_name
from stages.specs.pretraining import PooledStates, PretrainSpec
from stages.training.signal import StoredSignal

POOLINGS = ("mean", "cls")


def small_encoder(seed: int = 0, dropout: float = 0.1, width: int = 16, layers: int = 2) -> BertModel:
    """A random BERT without a head."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
    )
    return BertModel(config)


def states_of(model: BertModel, rows: Rowset) -> dict[tuple[int, str], np.ndarray]:
    """(layer, pooling) -> [rows, width]: the pooled states of each row, which is read alone, in float64."""
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    for row in range(len(rows)):
        ids = torch.from_numpy(rows.examples.tokens.padded(np.array([row]), 0))
        with torch.no_grad():
            hidden = model.eval()(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, states in enumerate(hidden):
            tokens = states[0].double().numpy()
            found.setdefault((layer, "mean"), []).append(tokens.mean(0))
            found.setdefault((layer, "cls"), []).append(tokens[0])
    return {name: np.stack(values) for name, values in found.items()}


def stored(teacher: BertModel, rows: Rowset, pooling: str) -> StoredSignal:
    """All layers of a teacher with this pooling, as a training reads them from a store."""
    columns = {
        state_name(layer): values.astype(np.float32)
        for (layer, own), values in states_of(teacher, rows).items()
        if own == pooling
    }
    return StoredSignal((), [InMemoryColumns(columns)], {int(name[-2:]): name for name in columns})


def state_setup(
    checkpoint: Path, states: PooledStates, teacher: BertModel, seconds: float = 0.5, **spec: object
) -> StateSetup:
    """A training on 26 rows in batches of 4, with 12 held out, and a clock that advances by a second whenever it is
    read."""
    settings = PretrainSpec(**{"batch_size": 4, "epochs": 3, "learning_rate": 3e-3, "states": states, **spec})
    return stored_setup(checkpoint, settings, teacher, states.stored_pooling, seconds)


def stored_setup(
    checkpoint: Path, settings: PretrainSpec, teacher: BertModel, pooling: str, seconds: float
) -> StateSetup:
    """A training on 26 rows, with 12 held out, by all stored layers of ``teacher`` with this pooling, and a clock that
    advances by a second whenever it is read."""
    texts, held_out = random_rows(CLASSES, 26, seed=1), random_rows(CLASSES, 12, seed=2)
    clock = count()
    return StateSetup(
        settings,
        texts,
        held_out,
        checkpoint,
        seconds,
        lambda: float(next(clock)),
        stored=stored(teacher, texts, pooling),
        stored_held_out=stored(teacher, held_out, pooling),
        teacher_widths=dict.fromkeys(range(13), teacher.config.hidden_size),
    )


def state_training(model: BertModel, setup: StateSetup, worker: LocalWorker | None = None) -> Pretraining:
    """A training that has not begun."""
    own = worker or LocalWorker()
    return Pretraining(StateObjective(model, setup, own), setup, own)
