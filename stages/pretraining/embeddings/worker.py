"""Train one sentence encoder on the stored embeddings of another in a worker: load the encoder, the texts and the
store, train, save as sentence-transformers loads it."""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from cluster.resources import Worker
from stages.corpus.reader import TOKENIZER
from stages.corpus.rowset import read_rowset
from stages.models.forward import count_parameters, widths
from stages.models.loading import build_encoder, check_finite_weights
from stages.models.malloc import keep_freed_memory
from stages.models.sentences import write_modules
from stages.models.sentences.modules import DENSE, WEIGHTS
from stages.outputs.layout import read_store
from stages.outputs.quarantine import read_quarantined
from stages.pretraining.embeddings.model_card import sentence_encoder_card
from stages.pretraining.embeddings.objective import EmbeddingObjective
from stages.pretraining.job import CHECKPOINT, PretrainFacts, PretrainJob
from stages.pretraining.loop import Pretraining
from stages.pretraining.saving import curves_in, facts_of, save_model
from stages.pretraining.state_objective import StateSetup
from stages.pretraining.state_worker import signal_for
from stages.specs.pretraining import SentenceEmbedding
from stages.specs.tasks import HOLDOUT, TRAIN
from stages.training.teachers import quarantine_facts, without
from stages.training.tensorboard import FOLDER


def train(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Train the encoder of ``job`` on its teacher's stored embeddings; return its figures. Every worker runs this; the
    first one writes the files."""
    keep_freed_memory()
    torch.set_num_threads(worker.threads)
    texts, store, embedding = job.inputs["texts"], job.inputs["outputs"], job.spec.embedding
    assert embedding is not None
    bad = read_quarantined(store)
    rows, held_out = (read_rowset(texts, split) for split in (TRAIN, HOLDOUT))
    known, known_held_out = without(rows, bad), without(held_out, bad)
    if not len(known) or not len(known_held_out):
        raise ValueError(f"{store}: all texts of a split are set aside; use another teacher")
    layout = read_store(store).layout
    names = {embedding.layer: layout.column_of(embedding.layer, embedding.pooling)}
    stored, stored_held_out = (signal_for(store, names, split, worker) for split in (known, known_held_out))
    torch.manual_seed(job.spec.seed)
    start = build_encoder(job.spec.start, job.inputs["start"])
    check_finite_weights(start.model, job.inputs["start"])
    setup = StateSetup(
        job.spec,
        known,
        known_held_out,
        job.out / CHECKPOINT,
        job.checkpoint_seconds,
        note_epoch=curves_in(job.out / FOLDER, "embeddings"),
        stored=stored,
        stored_held_out=stored_held_out,
        teacher_widths=layout.width_by_layer,
    )
    objective = EmbeddingObjective(start.model, setup, worker)
    training = Pretraining(objective, setup, worker)
    training.run()
    progress, projection = training.progress, objective.student.projection
    kept = projection if embedding.projection == "kept" else None
    if worker.rank == 0:
        card = partial(sentence_encoder_card, job.spec, progress, len(known), layout.width)
        save_model(start.model, job.out, texts / TOKENIZER, progress, card, start.new_pooler)
        save_modules(job.out / "model", embedding, job.spec.max_length, widths(start.model)[-1], kept)
    facts = {**facts_of(progress, setup, start.model), **quarantine_facts(len(rows), len(known))}
    return facts if kept is None else {**facts, "parameters": count_parameters(start.model) + count_parameters(kept)}


def save_modules(
    directory: Path, embedding: SentenceEmbedding, max_length: int, own: int, projection: nn.Linear | None
) -> None:
    """Write what makes the encoder in ``directory``, whose states are ``own`` wide, one of sentence-transformers."""
    outputs = None if projection is None else projection.out_features
    write_modules(directory, embedding.pooling, embedding.normalize, max_length, own, outputs)
    if projection is not None:
        weights = {
            f"linear.{name}": value.detach().cpu().contiguous() for name, value in projection.state_dict().items()
        }
        save_file(weights, directory / DENSE / WEIGHTS)
