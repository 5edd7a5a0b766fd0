"""One student in a worker: load, train, score, save."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.card import model_card
from stages.checkpoint import Progress
from stages.corpus_reader import Meta, read_meta
from stages.data import Rowset, read_rowset
from stages.distil import Facts, Job
from stages.groups import check_store, groups_of, teacher_layers
from stages.loop import Lesson, fit
from stages.memory import keep_freed_memory
from stages.method import Method, check_teachers
from stages.models import build, count_parameters
from stages.predict import predict, scores
from stages.signal import Columns, NoTeacher, Signal, Stored
from stages.specs import DistilSpec
from stages.store.decoded import cache_directory, decode
from stages.store.layout import read_store
from stages.structure import NoLayers

Scores = dict[str, dict[str, float]]


def train(job: Job, worker: Worker) -> Facts:
    """Train the student of ``job``. Every worker runs this; the first one writes."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    corpus = job.inputs["corpus"]
    meta = read_meta(corpus)
    rows = read_rowset(corpus, "train")
    select = read_rowset(corpus, selecting_split(job.spec, meta))
    lesson = Lesson(
        job.spec,
        meta.task,
        rows,
        select,
        signal_of(job.spec, job.inputs, rows, worker.note),
        job.out / "scratch" / "checkpoint.pt",
        job.checkpoint_seconds,
        teacher_width=teacher_width(job.spec.method, job.inputs),
        keep=keeper(job) if job.spec.train.keep == "epochs" else None,
    )
    torch.manual_seed(job.spec.train.seed)
    model = build(job.spec.start, job.inputs["start"], meta.task)
    progress = fit(model, lesson, worker)
    last = best = dev_scores(model, corpus, meta, worker)
    if progress.best + 1 < len(progress.history):
        model.load_state_dict(progress.best_weights)
        best = dev_scores(model, corpus, meta, worker)
    if worker.rank == 0:
        save_student(model, job, meta, progress, best, last)
    return {
        "rows": len(rows),
        "train_seconds": round(progress.seconds, 3),
        "parameters": count_parameters(model),
        "best_epoch": progress.best + 1,
        "scores": best,
        "last_epoch_scores": last,
    }


def selecting_split(spec: DistilSpec, meta: Meta) -> str:
    """The split whose score picks the best epoch."""
    if spec.train.select == "dev":
        return meta.task.dev_splits[0]
    if "holdout" not in meta.splits:
        raise ValueError("train.select: holdout, but data.holdout is 0; set data.holdout above 0, or train.select: dev")
    return "holdout"


def signal_of(
    spec: DistilSpec, inputs: Mapping[str, Path], rows: Rowset, say: Callable[[str], None] = lambda _text: None
) -> Signal:
    """What teachers said, mapped from this node's copies of their stores for the rows of train. ``say`` hears of it
    when a copy has to be made first."""
    method = spec.method
    if not method.needs_teacher:
        return NoTeacher()
    stores = teachers(inputs)
    check_teachers(method, len(stores))
    cache = cache_directory(os.environ)

    def mapped(store: Path, names: Sequence[str]) -> Columns:
        return decode(store, names, rows.row_keys, cache, say)

    logits = ("logits",) if method.needs_logits else ()
    if method.needs_probes:
        names = columns_of(method, inputs["probes"])
        spoken = [mapped(store, logits) for store in stores] if logits else []
        return Stored(spoken, [mapped(inputs["probes"], list(names.values()))], names)
    each = [columns_of(method, store) for store in stores]
    found = [mapped(store, [*logits, *names.values()]) for store, names in zip(stores, each, strict=True)]
    return Stored(found, found, each[0])


def teachers(inputs: Mapping[str, Path]) -> Sequence[Path]:
    """The stores of who teaches: ``outputs``, or ``outputs/0``, ``outputs/1`` ... in their order."""
    several = {int(name.removeprefix(SEVERAL)): path for name, path in inputs.items() if name.startswith(SEVERAL)}
    return [several[number] for number in sorted(several)] or [inputs["outputs"]]


SEVERAL = "outputs/"


def columns_of(method: Method, store: Path) -> dict[int, str]:
    """The layers that the method follows -> the column of the store that holds each, and no other column.
    ValueError where the store lacks one."""
    layout, structure = read_store(store).layout, method.structure
    check_store(structure, layout.layers, layout.pooling)
    if isinstance(structure, NoLayers):
        return {}
    return {layer: layout.column_of(layer, structure.pooling) for layer in teacher_layers(groups_of(structure))}


def teacher_width(method: Method, inputs: Mapping[str, Path]) -> int:
    """That of the teacher's layers, 0 where none is followed. Teachers of other widths in turn would need projections
    of their own: ValueError."""
    if not method.needs_layers:
        return 0
    widths = {read_store(store).layout.width for store in teachers(inputs)}
    if len(widths) > 1:
        raise ValueError(f"structure: the teachers' layers are {sorted(widths)} wide; follow layers of one width")
    return widths.pop()


def dev_scores(model: PreTrainedModel, corpus: Path, meta: Meta, worker: Worker) -> Scores:
    """Split -> metric -> score on every dev split."""
    found: Scores = {}
    for split, about in meta.splits.items():
        if about.role == "dev":
            rows = read_rowset(corpus, split)
            logits = predict(model, rows, meta.task.outputs, worker.device, worker.rank, worker.world_size)
            found[split] = scores(meta.task, logits, rows)
    return found


def keeper(job: Job) -> Callable[[nn.Module, int], None]:
    """Keeps the model of an epoch in ``epochs/01``, ``epochs/02`` ..., whole or not at all."""

    def keep(model: nn.Module, epoch: int) -> None:
        target = job.out / "epochs" / f"{epoch:02d}"
        draft = job.out / "scratch" / f"epoch-{epoch:02d}"
        for folder in (target, draft):
            shutil.rmtree(folder, ignore_errors=True)
        assert isinstance(model, PreTrainedModel)
        save_model(model, job, draft)
        target.parent.mkdir(exist_ok=True)
        draft.rename(target)

    return keep


def save_model(model: PreTrainedModel, job: Job, target: Path) -> None:
    """Model and tokenizer, as transformers loads them."""
    model.save_pretrained(target)
    shutil.copytree(job.inputs["corpus"] / "tokenizer", target, dirs_exist_ok=True)


def save_student(model: PreTrainedModel, job: Job, meta: Meta, progress: Progress, best: Scores, last: Scores) -> None:
    """``model/`` as transformers loads it, and ``history.json``."""
    target = job.out / "model"
    shutil.rmtree(target, ignore_errors=True)
    nn.Module.to(model, "cpu")
    save_model(model, job, target)
    history = {
        "epochs": [asdict(epoch) for epoch in progress.history],
        "best_epoch": progress.best + 1,
        "scores": best,
        "last_epoch_scores": last,
    }
    (job.out / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    lineage = job.out / "lineage.json"
    known = json.loads(lineage.read_text("utf-8")) if lineage.exists() else {}
    card = model_card(job.spec, meta.task, count_parameters(model), best, known)
    (target / "README.md").write_text(card, "utf-8")
