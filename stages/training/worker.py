"""One student in a worker: load, train, score, save."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.corpus.reader import Meta, read_meta
from stages.corpus.rowset import read_rowset
from stages.evaluation.scoring import scores
from stages.models.forward import count_parameters
from stages.models.loading import build
from stages.models.malloc import keep_freed_memory
from stages.models.predict import predict
from stages.specs.student import DistilSpec
from stages.training.checkpoint import Progress
from stages.training.job import Facts, StudentJob
from stages.training.loop import fit
from stages.training.model_card import model_card
from stages.training.setup import TrainingSetup
from stages.training.teachers import pool_of, signal_of, teacher_width, warnings_of
from stages.training.tensorboard import FOLDER, Point, drawer, name_of, write

Scores = dict[str, dict[str, float]]


def train(job: StudentJob, worker: Worker) -> Facts:
    """Train the student of ``job``. Every worker runs this; the first one writes."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    corpus = job.inputs["corpus"]
    meta = read_meta(corpus)
    rows = read_rowset(corpus, "train")
    select = read_rowset(corpus, selecting_split(job.spec, meta))
    signal = signal_of(job.spec, job.inputs, rows, worker.note)
    setup = TrainingSetup(
        job.spec,
        meta.task,
        rows,
        select,
        signal,
        job.out / "scratch" / "checkpoint.pt",
        job.checkpoint_seconds,
        teacher_width=teacher_width(job.spec.method, job.inputs),
        pool=pool_of(job.spec, job.inputs, rows, worker.note),
        keep=keeper(job) if job.spec.train.keep == "epochs" else None,
        draw=drawer(job.out / FOLDER, time.time),
        resumable=lambda progress: every_epoch_is_kept(job, progress),
    )
    torch.manual_seed(job.spec.train.seed)
    model = build(job.spec.start, job.inputs["start"], meta.task)
    progress = fit(model, setup, worker)
    last = best = dev_scores(model, corpus, meta, worker)
    if progress.best + 1 < len(progress.history):
        model.load_state_dict(progress.best_weights)
        best = dev_scores(model, corpus, meta, worker)
    if worker.rank == 0:
        save_student(model, job, meta, progress, best, last)
        draw_ends(job, progress, steps_of(len(rows), job.spec), best, last)
    return {
        "rows": len(rows),
        "train_seconds": round(progress.seconds, 3),
        "parameters": count_parameters(model),
        "best_epoch": progress.best + 1,
        "scores": best,
        "last_epoch_scores": last,
        **used_candidates(progress),
        **warnings_of(signal, len(rows)),
    }


def steps_of(rows: int, spec: DistilSpec) -> int:
    """Of an epoch."""
    return -(-rows // spec.train.batch_size)


def draw_ends(job: StudentJob, progress: Progress, steps: int, best: Scores, last: Scores) -> None:
    """The scores on dev, of the best epoch and of the last, in a file after those of the epochs."""
    ends = {progress.best + 1: best, len(progress.history): last}
    points = [
        Point(
            epoch * steps,
            progress.history[epoch - 1].seconds,
            {f"dev/{split}_{metric}": score for split, found in told.items() for metric, score in found.items()},
        )
        for epoch, told in sorted(ends.items())
    ]
    write(job.out / FOLDER / name_of(len(progress.history) + 1), points, time.time())


def used_candidates(progress: Progress) -> Facts:
    """How many texts beside the task's own were trained with, over all epochs; nothing where the method has none."""
    told = [epoch.candidates for epoch in progress.history if epoch.candidates is not None]
    return {"candidates": sum(one["used"] for one in told)} if told else {}


def selecting_split(spec: DistilSpec, meta: Meta) -> str:
    """The split whose score picks the best epoch."""
    if spec.train.select == "dev":
        return meta.task.dev_splits[0]
    if "holdout" not in meta.splits:
        raise ValueError("train.select: holdout, but data.holdout is 0; set data.holdout above 0, or train.select: dev")
    return "holdout"


def dev_scores(model: PreTrainedModel, corpus: Path, meta: Meta, worker: Worker) -> Scores:
    """Split -> metric -> score on every dev split."""
    found: Scores = {}
    for split, about in meta.splits.items():
        if about.role == "dev":
            rows = read_rowset(corpus, split)
            logits = predict(model, rows, meta.task.outputs, worker.device, worker.rank, worker.world_size)
            found[split] = scores(meta.task, logits, rows)
    return found


def keeper(job: StudentJob) -> Callable[[nn.Module, int], None]:
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


def every_epoch_is_kept(job: StudentJob, progress: Progress) -> bool:
    """Whether the models of all epochs that have ended are there, where they are to be kept.

    An attempt that kept the best epoch alone may be continued by one that keeps every epoch: it has to start over.
    """
    if job.spec.train.keep != "epochs":
        return True
    return all((job.out / "epochs" / f"{epoch:02d}").is_dir() for epoch in range(1, len(progress.history) + 1))


def save_model(model: PreTrainedModel, job: StudentJob, target: Path) -> None:
    """Model and tokenizer, as transformers loads them."""
    model.save_pretrained(target)
    shutil.copytree(job.inputs["corpus"] / "tokenizer", target, dirs_exist_ok=True)


def save_student(
    model: PreTrainedModel, job: StudentJob, meta: Meta, progress: Progress, best: Scores, last: Scores
) -> None:
    """``model/`` as transformers loads it, and ``history.json``."""
    target = job.out / "model"
    shutil.rmtree(target, ignore_errors=True)
    nn.Module.to(model, "cpu")
    save_model(model, job, target)
    history = {
        "epochs": [epoch.as_json() for epoch in progress.history],
        "best_epoch": progress.best + 1,
        "scores": best,
        "last_epoch_scores": last,
    }
    (job.out / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    lineage = job.out / "lineage.json"
    known = json.loads(lineage.read_text("utf-8")) if lineage.exists() else {}
    card = model_card(job.spec, meta.task, count_parameters(model), best, known)
    (target / "README.md").write_text(card, "utf-8")
