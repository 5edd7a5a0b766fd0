"""Train one masked language model in a worker: load the model and the texts, train, save."""

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.corpus.reader import TOKENIZER
from stages.corpus.rowset import read_rowset
from stages.corpus.tokenizer import load_tokenizer
from stages.models.forward import count_parameters
from stages.models.malloc import keep_freed_memory
from stages.models.masked.language_model import build_masked_model
from stages.models.masked.token_ids import ids_for_masking
from stages.pretraining.job import SCRATCH_TEXTS, MaskedFacts, PretrainJob
from stages.pretraining.loop import fit_masked_model
from stages.pretraining.masked_objective import MaskedSetup
from stages.pretraining.model_card import masked_model_card
from stages.pretraining.objective import NoteEpoch
from stages.pretraining.progress import MaskedEpoch, MaskedProgress
from stages.specs.student import Pretrained
from stages.specs.tasks import HOLDOUT, TRAIN
from stages.training.tensorboard import FOLDER, Point, curve_writer


def train(job: PretrainJob, worker: Worker) -> MaskedFacts:
    """Train the masked language model of ``job``; return its figures. Every worker runs this; the first one writes the
    files."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    texts = job.out / SCRATCH_TEXTS
    rows, held_out = read_rowset(texts, TRAIN), read_rowset(texts, HOLDOUT)
    torch.manual_seed(job.spec.seed)
    start = build_masked_model(job.spec.start, job.inputs["start"])
    check_finite_weights(start.model, job.inputs["start"])
    teacher = load_teacher(job.inputs["teacher"]) if job.spec.distillation is not None else None
    tokens = ids_for_masking(load_tokenizer(texts / TOKENIZER), embedded_tokens(start.model))
    setup = MaskedSetup(
        job.spec,
        rows,
        held_out,
        job.out / "scratch" / "checkpoint.pt",
        job.checkpoint_seconds,
        note_epoch=curves_in(job.out / FOLDER),
        tokens=tokens,
        teacher=teacher,
    )
    progress = fit_masked_model(start.model, setup, worker)
    if worker.rank == 0:
        save(start.model, job, progress, len(rows))
    assert progress.before is not None
    worse = progress.score.loss >= progress.before.loss
    warning = (
        f"the held-out loss did not fall ({progress.before.loss:.3f} before, {progress.score.loss:.3f} after); train "
        "longer, or with another learning_rate"
    )
    return {
        "rows": len(rows),
        "held_out_rows": len(held_out),
        "steps": setup.steps,
        "texts_read": job.spec.texts_read(len(rows)),
        "train_seconds": round(progress.seconds, 3),
        "parameters": count_parameters(start.model),
        "new_head": start.new_head,
        "before": asdict(progress.before),
        "after": asdict(progress.score),
        **({"warnings": [warning]} if worse else {}),
    }


def load_teacher(directory: Path) -> PreTrainedModel:
    """The masked language model in ``directory``, with its own head. Raises ValueError if it has none, or if its
    weights are not finite."""
    found = build_masked_model(Pretrained(), directory)
    if found.new_head:
        raise ValueError(
            f"{directory}: has no head that predicts tokens, and cannot teach a masked language model; give another "
            "taught_by"
        )
    check_finite_weights(found.model, directory)
    return found.model


def embedded_tokens(model: PreTrainedModel) -> int:
    """The number of tokens that have a word embedding."""
    return cast(nn.Embedding, model.get_input_embeddings()).num_embeddings


def check_finite_weights(model: PreTrainedModel, directory: Path) -> None:
    """ValueError if the first weights, made from the model in ``directory``, are not all finite."""
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise ValueError(f"{directory}: weights from here are not finite ({name}); use another model")


def curves_in(folder: Path) -> NoteEpoch:
    """A function that writes the figures of each epoch to a TensorBoard file in ``folder``."""
    write = curve_writer(folder, time.time)

    def note_epoch(epoch: MaskedEpoch, rate: float) -> None:
        values = {
            "loss/masked_tokens": epoch.loss,
            "held_out/loss": epoch.held_out.loss,
            "held_out/accuracy": epoch.held_out.accuracy,
            "schedule/learning_rate": rate,
        }
        if epoch.teacher is not None:
            values["loss/soft_targets"] = epoch.teacher.soft
            if epoch.teacher.cosine is not None:
                values["loss/last_states"] = epoch.teacher.cosine
        write(epoch.epoch, [Point(epoch.steps, epoch.seconds, values)])

    return note_epoch


def save(model: PreTrainedModel, job: PretrainJob, progress: MaskedProgress, rows: int) -> None:
    """Write ``model/``, with tokenizer and model card, and ``history.json``. ``model`` is moved to the CPU."""
    target = job.out / "model"
    shutil.rmtree(target, ignore_errors=True)
    nn.Module.to(model, "cpu")
    model.save_pretrained(target)
    shutil.copytree(job.out / SCRATCH_TEXTS / TOKENIZER, target, dirs_exist_ok=True)
    (job.out / "history.json").write_text(json.dumps(progress.as_json(), indent=1) + "\n", "utf-8")
    lineage = job.out / "lineage.json"
    known = json.loads(lineage.read_text("utf-8")) if lineage.exists() else {}
    card = masked_model_card(job.spec, progress, rows, count_parameters(model), known)
    (target / "README.md").write_text(card, "utf-8")
