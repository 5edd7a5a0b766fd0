"""Train one masked language model in a worker: load the model and the texts, train, save."""

from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from cluster.resources import Worker
from stages.corpus.reader import TOKENIZER
from stages.corpus.rowset import read_rowset
from stages.corpus.tokenizer import load_tokenizer
from stages.device_turn import TURN
from stages.freed_memory import keep_freed_memory
from stages.models.loading import check_finite_weights
from stages.models.masked.language_model import build_masked_model
from stages.models.masked.token_ids import ids_for_masking
from stages.pretraining.job import CHECKPOINT, SCRATCH_TEXTS, PretrainFacts, PretrainJob
from stages.pretraining.loop import fit_masked_model
from stages.pretraining.masked_objective import MaskedSetup
from stages.pretraining.model_card import masked_model_card
from stages.pretraining.saving import curves_in, facts_of, save_model
from stages.specs.student import Pretrained
from stages.specs.tasks import HOLDOUT, TRAIN
from stages.training.tensorboard import FOLDER


def train(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Train the masked language model of ``job``; return its figures. Every worker runs this; the first one writes the
    files."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    texts = job.out / SCRATCH_TEXTS
    rows, held_out = read_rowset(texts, TRAIN), read_rowset(texts, HOLDOUT)
    with TURN:
        torch.manual_seed(job.spec.seed)
        start = build_masked_model(job.spec.start, job.inputs["start"])
    check_finite_weights(start.model, job.inputs["start"])
    teacher = load_teacher(job.inputs["teacher"]) if job.spec.distillation is not None else None
    tokens = ids_for_masking(load_tokenizer(texts / TOKENIZER), embedded_tokens(start.model))
    setup = MaskedSetup(
        job.spec,
        rows,
        held_out,
        job.out / CHECKPOINT,
        job.checkpoint_seconds,
        note_epoch=curves_in(job.out / FOLDER, "masked_tokens"),
        tokens=tokens,
        teacher=teacher,
    )
    progress = fit_masked_model(start.model, setup, worker)
    if worker.rank == 0:
        card = partial(masked_model_card, job.spec, progress, len(rows))
        save_model(start.model, job.out, texts / TOKENIZER, progress, card)
    return {**facts_of(progress, setup, start.model), "new_head": start.new_head}


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
