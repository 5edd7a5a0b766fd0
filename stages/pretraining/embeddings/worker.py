"""Train one sentence encoder on the stored embeddings of another in a worker: load the encoder, the texts and the
store, train, save as sentence-transformers loads it."""

from functools import partial
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from cluster.resources import Worker
from stages.corpus.reader import TOKENIZER
from stages.models.forward import count_parameters, widths
from stages.models.sentences import write_modules
from stages.models.sentences.modules import DENSE, WEIGHTS
from stages.outputs.layout import read_store
from stages.pretraining.embeddings.model_card import sentence_encoder_card
from stages.pretraining.embeddings.objective import EmbeddingObjective
from stages.pretraining.job import PretrainFacts, PretrainJob
from stages.pretraining.loop import Pretraining
from stages.pretraining.saving import facts_of, save_model
from stages.pretraining.state_worker import open_states
from stages.specs.pretraining import SentenceEmbedding


def train(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Train the encoder of ``job`` on its teacher's stored embeddings; return its figures. Every worker runs this; the
    first one writes the files."""
    embedding, layout = job.spec.embedding, read_store(job.inputs["outputs"]).layout
    assert embedding is not None
    names = {embedding.layer: layout.column_of(embedding.layer, embedding.pooling)}
    opened = open_states(job, worker, "embeddings", names)
    start, setup = opened.start, opened.setup
    objective = EmbeddingObjective(start.model, setup, worker)
    training = Pretraining(objective, setup, worker)
    training.run()
    progress, projection = training.progress, objective.student.projection
    kept = projection if embedding.projection == "kept" else None
    if worker.rank == 0:
        card = partial(sentence_encoder_card, job.spec, progress, len(setup.texts), layout.width)
        save_model(start.model, job.out, job.inputs["texts"] / TOKENIZER, progress, card, start.new_pooler)
        save_modules(job.out / "model", embedding, job.spec.max_length, widths(start.model)[-1], kept)
    facts = {**facts_of(progress, setup, start.model), **opened.quarantined}
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
