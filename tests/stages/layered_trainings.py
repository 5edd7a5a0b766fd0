"""Small trainings with the stored layer states of a teacher, for tests."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from training_setups import InMemoryColumns, setup_of, small_bert, spec_of

from stages.models.forward import forward, pooled_state
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.layers import Structure, state_name
from stages.specs.method import Method
from stages.specs.tasks import Task
from stages.training.setup import TrainingSetup
from stages.training.signal import StoredSignal

NAMES = {layer: state_name(layer) for layer in range(4)}


def layer_columns(setup: TrainingSetup) -> Mapping[str, np.ndarray]:
    """The columns of the store."""
    assert isinstance(setup.signal, StoredSignal)
    (source,) = setup.signal.logits
    assert isinstance(source, InMemoryColumns)
    return source.columns


def method_of(structure: Structure) -> Method:
    """A method of one phase with the labels, a teacher's logits and this structure."""
    return Method(targets=TeacherTargets(), training=OnePhase(temperature=3.0, teacher_weight=0.7), structure=structure)


def states_of(model: nn.Module, setup: TrainingSetup, pooling: str) -> dict[str, np.ndarray]:
    """Logits and pooled states of all layers of a teacher, for all rows of train in one batch."""
    model.eval()
    batch = setup.train.batch(np.arange(len(setup.train)), "cpu")
    with torch.no_grad():
        logits, hidden, *_ = forward(model, batch.inputs, hidden=True)
        pooled = [pooled_state(states, batch.inputs["attention_mask"], pooling).numpy() for states in hidden]
    return {"logits": logits.numpy(), **{state_name(layer): values for layer, values in enumerate(pooled)}}


def layered(
    structure: Structure, task: Task, checkpoint: Path, method: Method | None = None, **train: object
) -> TrainingSetup:
    """A training with the stored outputs of a teacher of three layers."""
    assert not isinstance(structure, NoLayers)
    plain = setup_of(spec_of(method or method_of(structure), **train), task, checkpoint)
    outputs = states_of(small_bert(task, seed=99, layers=3), plain, structure.pooling)
    source = [InMemoryColumns(outputs)]
    return replace(plain, signal=StoredSignal(source, source, NAMES), teacher_widths=dict.fromkeys(range(13), 16))
