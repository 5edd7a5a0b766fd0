"""Train one model on the stored states of another in a worker: load the encoder, the texts and the store, train,
save."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from cluster.resources import Worker
from stages.cache_folder import CacheFolder
from stages.corpus.reader import TOKENIZER
from stages.corpus.rowset import Rowset, read_rowset, without
from stages.device_turn import TURN
from stages.freed_memory import keep_freed_memory
from stages.models.loading import LoadedEncoder, build_encoder, check_finite_weights
from stages.outputs.layout import read_store
from stages.outputs.node_cache import decode
from stages.outputs.quarantine import read_quarantined
from stages.pretraining.job import CHECKPOINT, PretrainFacts, PretrainJob
from stages.pretraining.loop import Pretraining
from stages.pretraining.model_card import state_student_card
from stages.pretraining.saving import curves_in, facts_of, save_model
from stages.pretraining.state_objective import StateObjective, StateSetup
from stages.specs.tasks import HOLDOUT, TRAIN
from stages.training.signal import StoredSignal
from stages.training.teachers import layer_columns, layer_warnings, quarantine_facts
from stages.training.tensorboard import FOLDER


def train(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Train the encoder of ``job`` on its teacher's stored states; return its figures. Every worker runs this; the
    first one writes the files."""
    states = job.spec.states
    assert states is not None
    opened = open_states(job, worker, "states", layer_columns(states, job.inputs["outputs"]))
    start, setup = opened.start, opened.setup
    training = Pretraining(StateObjective(start.model, setup, worker), setup, worker)
    training.run()
    progress = training.progress
    if worker.rank == 0:
        card = partial(state_student_card, job.spec, progress, len(setup.texts))
        save_model(start.model, job.out, job.inputs["texts"] / TOKENIZER, progress, card, start.new_pooler)
    warnings = [line.replace("structure", "states", 1) for line in layer_warnings(setup.stored, len(setup.texts))]
    return {**facts_of(progress, setup, start.model, warnings), **opened.quarantined}


@dataclass(frozen=True, slots=True)
class OpenedStates:
    """What a training on stored states starts from: the encoder, its setup, and the facts of texts left out."""

    start: LoadedEncoder
    setup: StateSetup
    quarantined: Mapping[str, object]


def open_states(job: PretrainJob, worker: Worker, curves: str, names: Mapping[int, str]) -> OpenedStates:
    """Load the encoder of ``job``, its texts, and the columns ``names`` (by layer) of its teacher's store. The losses
    are under the name ``curves`` in TensorBoard. Raises ValueError if the store has set aside all texts of a split, and
    for weights that are not finite."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    texts, store = job.inputs["texts"], job.inputs["outputs"]
    bad = read_quarantined(store)
    rows, held_out = (read_rowset(texts, split) for split in (TRAIN, HOLDOUT))
    known, known_held_out = without(rows, bad), without(held_out, bad)
    if not len(known) or not len(known_held_out):
        raise ValueError(f"{store}: all texts of a split are set aside; use another teacher")
    stored, stored_held_out = (signal_for(store, names, split, worker) for split in (known, known_held_out))
    with TURN:
        torch.manual_seed(job.spec.seed)
        start = build_encoder(job.spec.start, job.inputs["start"])
    check_finite_weights(start.model, job.inputs["start"])
    setup = StateSetup(
        job.spec,
        known,
        known_held_out,
        job.out / CHECKPOINT,
        job.checkpoint_seconds,
        note_epoch=curves_in(job.out / FOLDER, curves),
        stored=stored,
        stored_held_out=stored_held_out,
        teacher_widths=read_store(store).layout.width_by_layer,
    )
    return OpenedStates(start, setup, quarantine_facts(len(rows), len(known)))


def signal_for(store: Path, names: Mapping[int, str], rows: Rowset, worker: Worker) -> StoredSignal:
    """The teacher's states for these rows, mapped from this node's copy of the store."""
    decoded = decode(store, list(names.values()), rows.row_keys, CacheFolder.of(os.environ), worker.note)
    return StoredSignal((), [decoded], names)
