"""Train one student in a worker: load the model and the data, train, score, save."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.atomic import sync_below, sync_folders
from stages.cards.front_matter import BaseModel, read_base
from stages.cards.student import CardOfStudent, model_card, read_lineage
from stages.corpus.batches import steps_of
from stages.corpus.reader import Meta, read_meta, reader_folder
from stages.corpus.rowset import Rowset, read_rowset
from stages.deployment.description import write_description
from stages.device_turn import TURN
from stages.evaluation.predictions import last_predictions_path
from stages.evaluation.scoring import keep_predictions, scores
from stages.freed_memory import keep_freed_memory
from stages.models.by_task import build
from stages.models.forward import count_parameters
from stages.models.heads import CRF_HEAD_NAME, is_own_class
from stages.models.heads.mean_head import head_of_model
from stages.models.heads.states import last_state_variances
from stages.models.loading import check_finite_weights
from stages.models.predict import predict
from stages.outputs.layer_variance import DEAD
from stages.specs.schedule import CANDIDATES
from stages.specs.student import Bilstm, Cut, DistilSpec, Fresh, Head, rate_text
from stages.specs.tasks import HOLDOUT
from stages.training.checkpoint import Progress
from stages.training.job import Facts, StudentJob
from stages.training.live_teachers import open_live_teachers
from stages.training.loop import Training
from stages.training.participants.generator.opening import open_generator
from stages.training.participants.protocol import Cost, Participant
from stages.training.selection.epochs import selection_warnings
from stages.training.selection.learning_rates import sweep_of, with_rate
from stages.training.setup import TrainingSetup
from stages.training.teachers import (
    layer_warnings,
    open_candidate_pool,
    quarantine_facts,
    signal_of,
    sound_rows,
    teacher_widths,
)
from stages.training.tensorboard import FOLDER, Point, curve_writer, event_file_name, write_events

Scores = dict[str, dict[str, float]]
"""Split -> metric -> score."""


def train(job: StudentJob, worker: Worker) -> Facts:
    """Train the student of ``job``; return its figures. Every worker runs this; the first one writes the files."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    sweep = sweep_of(job.spec, job.inputs)
    if sweep is not None:
        job = replace(job, spec=with_rate(job.spec, sweep.best))
        rates = ", ".join(map(rate_text, job.spec.rates))
        worker.note(f"learning rate {rate_text(sweep.best)}, the best of {rates}")
    corpus = job.inputs["corpus"]
    meta = read_meta(corpus)
    found = read_rowset(corpus, "train")
    rows = sound_rows(job.spec, job.inputs, found)
    left_out = found.epoch_rows - rows.epoch_rows
    if left_out:
        worker.note(f"leaves out {left_out} of {found.epoch_rows} rows, which a teacher's store has set aside")
    select = read_rowset(corpus, selection_split(job.spec, meta))
    signal = signal_of(job.spec, job.inputs, rows, worker.note)
    setup = TrainingSetup(
        job.spec,
        meta.task,
        rows,
        select,
        signal,
        job.out / "scratch" / "checkpoint.pt",
        job.checkpoint_seconds,
        teacher_widths=teacher_widths(job.spec.method, job.inputs),
        candidate_pool=open_candidate_pool(job.spec, job.inputs, rows, worker.note),
        live_teachers=open_live_teachers(job.spec, job.inputs, worker.device),
        generator=open_generator(job.spec, job.inputs),
        save_epoch=epoch_saver(job) if job.spec.train.keep == "epochs" else None,
        write_curves=curve_writer(job.out / FOLDER, time.time),
        resumable=lambda progress: kept_every_epoch(job, progress),
    )
    with TURN:
        torch.manual_seed(job.spec.train.seed)
        model = build(job.spec.start, job.inputs.get("start"), meta.task, corpus)
    if "start" in job.inputs:
        check_finite_weights(model, job.inputs["start"])
    warnings = layer_warnings(signal, len(rows)) + head_warnings(model, job.spec, rows, worker)
    warnings += [] if sweep is None else sweep.warnings
    training = Training(model, setup, worker)
    training.run()
    progress = training.progress
    warnings += selection_warnings(job.spec.train, progress.history, progress.best)
    last = last_epoch_scores(model, job, meta, worker)
    best = {split: last[split] for split, about in meta.splits.items() if about.role == "dev"}
    if progress.best + 1 < len(progress.history):
        model.load_state_dict(progress.best_weights)
        best = dev_scores(model, corpus, meta, worker)
    if worker.rank == 0:
        for participant in training.participants:
            participant.write_files(job.out, model, reader_folder(corpus))
        save_student(model, job, meta, progress, best, last, {} if sweep is None else sweep.facts)
        write_dev_scores(job, progress, steps_of(rows.epoch_rows, job.spec.train.batch_size), best, last)
    return {
        "rows": rows.epoch_rows,
        **quarantine_facts(found.epoch_rows, rows.epoch_rows),
        "train_seconds": round(progress.seconds, 3),
        "parameters": count_parameters(model),
        "best_epoch": progress.best + 1,
        "scores": best,
        "last_epoch_scores": last,
        **candidate_facts(progress),
        **cost_facts(progress, training.participants),
        **layer_weight_facts(progress),
        **({} if sweep is None else sweep.facts),
        **({"warnings": warnings} if warnings else {}),
    }


def head_warnings(model: PreTrainedModel, spec: DistilSpec, rows: Rowset, worker: Worker) -> list[str]:
    """A warning, in one line, if a student that is cut out of another model has a head that reads states of the last
    layer which hardly vary between rows; else []. A whole pretrained model is left out: its last layer was trained to
    be read. Only the first worker measures it."""
    head = None if rows.offsets is not None else head_of_model(model)
    if head is None or not isinstance(spec.start, Cut) or worker.rank > 0 or len(rows) < 2:
        return []
    nn.Module.to(model, worker.device)
    variances = last_state_variances(model, rows, worker.device)
    if variances[head] >= DEAD:
        return []
    other: Head = "mean" if head == "cls" else "cls"
    remedy = f"give head: {other}" if variances[other] >= DEAD else "start from other layers"
    return [
        f"head: {head} reads states of the last layer that hardly vary between rows when training starts (variance "
        f"below {DEAD:g} of their energy), so that it has little to learn from; {remedy}"
    ]


def write_dev_scores(job: StudentJob, progress: Progress, steps: int, best: Scores, last: Scores) -> None:
    """Write the dev scores of the best and of the last epoch to a TensorBoard file that follows those of the epochs.
    ``steps`` is the length of an epoch."""
    by_epoch = {progress.best + 1: best, len(progress.history): last}
    points = [
        Point(
            epoch * steps,
            progress.history[epoch - 1].seconds,
            {f"dev/{split}_{metric}": score for split in best for metric, score in found[split].items()},
        )
        for epoch, found in sorted(by_epoch.items())
    ]
    write_events(job.out / FOLDER / event_file_name(len(progress.history) + 1), points, time.time())


def candidate_facts(progress: Progress) -> Facts:
    """``{"candidates": n}`` with the number of candidates trained on, over all epochs; {} if none were."""
    usage = [epoch.participants[CANDIDATES] for epoch in progress.history if CANDIDATES in epoch.participants]
    return {CANDIDATES: sum(epoch["used"] for epoch in usage)} if usage else {}


def cost_facts(progress: Progress, participants: Sequence[Participant]) -> Facts:
    """What the participants took over all epochs, ``augmented_rows`` and ``live_teacher_rows``, where it is not 0."""
    taken = [
        participant.cost(epoch.participants[participant.name])
        for participant in participants
        for epoch in progress.history
        if participant.name in epoch.participants
    ]
    return {name: count for name, count in asdict(sum(taken, Cost())).items() if count}


def layer_weight_facts(progress: Progress) -> Facts:
    """``{"layer_weight": {...}}`` with the measured weight of the layer term and its gradients; {} if none was
    measured."""
    return {} if progress.layer_weight is None else {"layer_weight": progress.layer_weight.as_json()}


def selection_split(spec: DistilSpec, meta: Meta) -> str:
    """The name of the split on which each epoch is scored: by its scores the best epoch is selected, unless
    ``train.select: last`` keeps the last one; that needs no holdout. Raises ValueError for ``holdout`` without rows."""
    select = spec.train.select
    if select == "dev" or (select == "last" and HOLDOUT not in meta.splits):
        return meta.task.dev_splits[0]
    if HOLDOUT not in meta.splits:
        raise ValueError(
            "train.select: holdout, but data.holdout is 0; set data.holdout above 0, or train.select to dev or last"
        )
    return HOLDOUT


def dev_scores(model: PreTrainedModel, corpus: Path, meta: Meta, worker: Worker) -> Scores:
    """The scores of ``model`` on every dev split. Workers share the batches; all return all scores."""
    found: Scores = {}
    for split, split_meta in meta.splits.items():
        if split_meta.role == "dev":
            rows = read_rowset(corpus, split)
            logits = predict(model, rows, meta.task.outputs, worker.device, worker.rank, worker.world_size)
            found[split] = scores(meta.task, logits, rows)
    return found


def last_epoch_scores(model: PreTrainedModel, job: StudentJob, meta: Meta, worker: Worker) -> Scores:
    """The scores of the last epoch, whose weights ``model`` has, on every dev split and every test split with labels.
    Its predictions for these splits are written, so that they can be compared row by row with those of other models.
    Workers share the batches; all return all scores, and the first one writes."""
    found: Scores = {}
    for split, split_meta in meta.splits.items():
        if split_meta.role not in ("dev", "test"):
            continue
        rows = read_rowset(job.inputs["corpus"], split)
        if split_meta.role == "test" and not rows.labelled.any():
            continue
        logits = predict(model, rows, meta.task.outputs, worker.device, worker.rank, worker.world_size)
        found[split] = scores(meta.task, logits, rows)
        if worker.rank == 0:
            keep_predictions(last_predictions_path(job.out, split), meta.task, logits, rows)
    return found


def epoch_saver(job: StudentJob) -> Callable[[nn.Module, int], None]:
    """A function that saves the model of an epoch to ``epochs/01``, ``epochs/02`` ..., atomically."""

    def save_epoch(model: nn.Module, epoch: int) -> None:
        target = job.out / "epochs" / f"{epoch:02d}"
        draft = job.out / "scratch" / f"epoch-{epoch:02d}"
        for folder in (target, draft):
            shutil.rmtree(folder, ignore_errors=True)
        assert isinstance(model, PreTrainedModel)
        save_model(model, job, draft)
        target.parent.mkdir(exist_ok=True)
        sync_below(draft)  # an epoch counts as kept by its folder's name
        draft.rename(target)
        sync_folders([target.parent], job.out)

    return save_epoch


def kept_every_epoch(job: StudentJob, progress: Progress) -> bool:
    """Whether ``progress`` can be continued as far as ``train.keep`` goes: with ``keep: epochs``, only if the models of
    all finished epochs were saved. A run with ``keep: best`` saves none, so that one with ``keep: epochs`` cannot go on
    from its checkpoint and has to start over.
    """
    if job.spec.train.keep != "epochs":
        return True
    return all((job.out / "epochs" / f"{epoch:02d}").is_dir() for epoch in range(1, len(progress.history) + 1))


def save_model(model: PreTrainedModel, job: StudentJob, target: Path) -> None:
    """Write model and tokenizer to ``target``, as transformers loads them; a model with a mean head, or a
    BiLSTM, as ``stillhouse.load_model`` does. Beside them is the description of the task, for predictions."""
    model.save_pretrained(target)
    shutil.copytree(reader_folder(job.inputs["corpus"]), target, dirs_exist_ok=True)
    meta = read_meta(job.inputs["corpus"])
    write_description(target, meta.task, meta.max_length)


def save_student(
    model: PreTrainedModel, job: StudentJob, meta: Meta, progress: Progress, best: Scores, last: Scores, rates: Facts
) -> None:
    """Write ``model/``, with tokenizer and model card, and ``history.json``, to which the facts ``rates`` of a sweep
    are added. ``model`` is moved to the CPU."""
    target = job.out / "model"
    shutil.rmtree(target, ignore_errors=True)
    if job.spec.train.keep != "epochs":
        shutil.rmtree(job.out / "epochs", ignore_errors=True)  # of an earlier attempt that was to keep them
    nn.Module.to(model, "cpu")
    save_model(model, job, target)
    history = {
        "epochs": [epoch.as_json() for epoch in progress.history],
        "best_epoch": progress.best + 1,
        "scores": best,
        "last_epoch_scores": last,
        **layer_weight_facts(progress),
        **rates,
    }
    (job.out / "history.json").write_text(json.dumps(history, indent=1) + "\n", "utf-8")
    head = CRF_HEAD_NAME if hasattr(model, CRF_HEAD_NAME) else head_of_model(model)
    own_class = is_own_class(model.config.model_type, head)
    lineage = read_lineage(job.out)
    card = CardOfStudent(
        meta.task, count_parameters(model), meta.max_length, best, lineage, own_class, base_of(job, lineage)
    )
    (target / "README.md").write_text(model_card(job.spec, card), "utf-8")


def base_of(job: StudentJob, lineage: Mapping[str, object]) -> BaseModel:
    """What is known of the model that a student starts from. One with random weights was made of no other model; only
    its tokenizer, and so its languages, are those of the model in the input."""
    inputs = lineage.get("inputs")
    given = inputs.get("start") if isinstance(inputs, Mapping) else None
    name = str(given.get("name", "")) if isinstance(given, Mapping) else ""
    if "start" not in job.inputs:
        return BaseModel()
    found = read_base(job.inputs["start"], name)
    start = job.spec.start
    random = isinstance(start, Fresh) or (isinstance(start, Bilstm) and start.embeddings != "copied")
    return BaseModel(language=found.language) if random else found
