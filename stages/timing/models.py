"""Measures a model in a worker: loading it, training it, its forward passes, and saving it."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

import stages.evaluation.worker
import stages.teaching.worker
import stages.training.worker  # noqa: F401  # the imports of the stages are part of what is measured
from cluster.resources import Worker
from stages.checksum import file_sha256
from stages.corpus.batches import Rows, epoch_batches, parts, sorted_batches
from stages.corpus.reader import TOKENIZER, read_meta
from stages.corpus.rowset import Rowset, read_rowset
from stages.freed_memory import keep_freed_memory
from stages.models.by_task import build
from stages.models.cutting import cut_layers
from stages.models.forward import forward, pass_cost, pooled_state
from stages.models.loading import load, quieten, random_model
from stages.models.predict import autocast
from stages.specs.student import Bilstm, Cut, Fresh, Pretrained, Start, Train
from stages.specs.tasks import TRAIN, Task
from stages.timing.job import Figures, ModelFigures, ModelTiming
from stages.training.optimizer import optimizer_of

LEAST_ROUNDS = 2
"""Rounds of a measured loop, at least, after one that is not counted."""
MOST_ROUNDS = 200
SINGLE_ROWS = 8
"""Rows over which a forward pass of one row is measured."""


def measure_model(job: ModelTiming, worker: Worker, imports: float) -> ModelFigures:
    """Measure what ``job`` names. ``imports``: seconds that importing took."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    rows, task = read_rowset(job.corpus, TRAIN), read_meta(job.corpus).task
    began = time.monotonic()
    model = opened(job.model, job.starts, task)
    nn.Module.to(model, worker.device)
    loaded = time.monotonic() - began
    steps = tuple(_training(model, rows, task, settings, worker, job.seconds) for settings in job.steps)
    figures = {"load": loaded, **_forward(model, rows, worker, job), **_saving(model, job)}
    return ModelFigures(imports, figures, steps)


def opened(directory: Path, starts: Sequence[Start], task: Task) -> PreTrainedModel:
    """The model in ``directory`` after these changes: layers are cut out, all weights are random, or a BiLSTM takes its
    place. Its head is of the last kind that ``starts`` name."""
    quieten()
    torch.manual_seed(0)
    head = next((start.head for start in reversed(starts) if start.head), None)
    model: PreTrainedModel | None = build(Pretrained(head=head), directory, task) if task.kind.has_entries else None
    for start in starts:
        match start:
            case Fresh() if task.kind.has_entries:
                model = build(start, directory, task)
            case Fresh(changes=changes):
                model = random_model(directory, dict(changes), task, head)
            case Cut(layers=layers):
                model = cut_layers(load(directory, task, head) if model is None else model, layers)
            case Bilstm():
                model = build(start, directory, task)
            case _:
                pass
    return load(directory, task, head) if model is None else model


# --- training -----------------------------------------------------------------------------------------


def _training(
    model: PreTrainedModel, rows: Rowset, task: Task, settings: Train, worker: Worker, seconds: float
) -> Figures:
    """Seconds of the first step, which allocates memory, and for each row of a step after it."""
    model.train()
    optimizer = optimizer_of(model, settings)
    kind = task.kind
    wrapped: Callable[..., object] = torch.compile(model, dynamic=True) if settings.compile else model
    assert isinstance(wrapped, nn.Module)

    def step(chosen: Rows) -> None:
        for start, end in parts(len(chosen), settings.micro_batch or len(chosen)):
            batch = rows.batch(chosen[start:end], worker.device)
            with autocast(worker.device, settings.precision):
                found = forward(wrapped, batch.inputs)
            values = kind.loss(found.logits.float(), batch.labels)
            kind.row_values(values, found.entries).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    batches = epoch_batches(rows.costs, settings.batch_size, 0)
    first, each, counted = _rounds(step, cycle(batches), worker.device, seconds)
    # The first step is longer than one of its rows at the usual rate.
    return {"first": max(0.0, first - each * len(batches[0])), "train_row": each / worker.world_size, "rows": counted}


def _rounds(
    do: Callable[[Rows], object], batches: Iterator[Rows], device: str, seconds: float
) -> tuple[float, float, float]:
    """Run ``do`` on one batch after another for so many seconds. Returns the seconds of the first round, the seconds
    for each row in the others, and the number of these rows."""

    def timed(batch: Rows) -> float:
        began = time.monotonic()
        do(batch)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.monotonic() - began

    first, spent, counted = timed(next(batches)), 0.0, 0
    for rounds, batch in enumerate(batches, 1):
        spent += timed(batch)
        counted += len(batch)
        if rounds >= MOST_ROUNDS or (rounds >= LEAST_ROUNDS and spent >= seconds):
            break
    return first, spent / max(1, counted), float(counted)


# --- forward passes, and files ------------------------------------------------------------------------


def _forward(model: PreTrainedModel, rows: Rowset, worker: Worker, job: ModelTiming) -> Figures:
    """Seconds of a forward pass of one row, and for each row of a larger one: logits alone, and what a teacher's store
    holds."""
    model.eval()
    batches = sorted_batches(rows.costs, pass_cost(model, worker.device))
    np.random.default_rng(0).shuffle(batches)

    def scored(chosen: Rows) -> None:
        forward(model, rows.batch(chosen, worker.device).inputs)[0].float().cpu()

    def stored(chosen: Rows, compute: str) -> None:
        batch = rows.batch(chosen, worker.device)
        with autocast(worker.device, compute):
            outputs = forward(model, batch.inputs, hidden=True)
        for layer in outputs.states:
            pooled_state(layer, outputs.mask, "mean").cpu()

    single = [np.array([row], np.int64) for row in range(min(SINGLE_ROWS, len(rows)))]
    with torch.inference_mode():
        figures = {
            "forward_row": _rounds(scored, cycle(batches), worker.device, job.seconds / 2)[1],
            "single": _rounds(scored, cycle(single), worker.device, 0.0)[1],
        }
        for compute in job.computes:
            kept = partial(stored, compute=compute)
            figures[f"store_{compute}_row"] = _rounds(kept, cycle(batches), worker.device, job.seconds / 2)[1]
    return figures


def _saving(model: PreTrainedModel, job: ModelTiming) -> Figures:
    """Seconds to save the model with its tokenizer and to compute the checksums of its files; and to keep a copy of its
    weights in memory, as for the best epoch."""
    began = time.monotonic()
    copied = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    kept = time.monotonic() - began
    del copied
    target = job.scratch / "model"
    began = time.monotonic()
    nn.Module.to(model, "cpu")
    model.save_pretrained(target)
    shutil.copytree(job.corpus / TOKENIZER, target, dirs_exist_ok=True)
    for path in target.iterdir():
        file_sha256(path)
    saved = time.monotonic() - began
    shutil.rmtree(target, ignore_errors=True)
    return {"keep": kept, "save": saved}
