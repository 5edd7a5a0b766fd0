"""The stage ``pretrain``: train a model on the texts of a bank or of a task, as a masked language model or on the
stored states or sentence embeddings of another model.

    model/         the model after the last step, with tokenizer and model card, as plain transformers loads it
    history.json   the scores on the held-out texts before the first step and after each epoch

For a masked language model, texts are tokenised by the map's workers first, then the model is trained in data-parallel
workers (``worker.py``). Tokenised texts and states are inputs of the other kinds (``state_worker.py``,
``embeddings/worker.py``). This module imports no torch, so that planning and the driver do not need it.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus.reader import META, read_split
from stages.corpus.token_shards import write_splits
from stages.outputs.quarantine import read_quarantined
from stages.pretraining.job import SCRATCH_TEXTS, PretrainFacts, PretrainJob
from stages.pretraining.texts import chosen_texts
from stages.specs.pretraining import PretrainSpec
from stages.specs.tasks import TRAIN


def pretrain(spec: PretrainSpec, inputs: Mapping[str, Path], out: Path, on: On) -> PretrainFacts:
    """Train the model of ``spec``; return its figures, such as its rows and its held-out losses.

    Inputs are those that ``PretrainSpec`` lists. Goes on from the tokenised texts and the checkpoint in ``out``.
    """
    if spec.states is not None or spec.embedding is not None:
        split, bad = read_split(inputs["texts"], TRAIN), read_quarantined(inputs["outputs"])
        on.expect(spec.texts_read(sum(key not in bad for key in split.keys)), "rows")
        job = PretrainJob(spec, dict(inputs), out)
        return on.train(train_on_states if spec.embedding is None else train_on_embeddings, job)
    texts, folder = chosen_texts(spec.texts, inputs), out / SCRATCH_TEXTS
    tokenised = (folder / META).exists()  # by an earlier attempt
    _, counts = write_splits(texts.task, spec.max_length, inputs["tokenizer"], texts.splits, folder, on)
    # What was tokenised counts as done already.
    on.expect(spec.texts_read(counts["rows"][TRAIN]) + (0 if tokenised else sum(counts["rows"].values())), "rows")
    found = on.train(train_masked_model, PretrainJob(spec, dict(inputs), out))
    return {**found, "truncated": sum(counts["truncated"].values())}


def train_masked_model(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Run in each worker. Imports torch only here, in the worker's process."""
    from stages.pretraining.worker import train

    return train(job, worker)


def train_on_states(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Run in each worker. Imports torch only here, in the worker's process."""
    from stages.pretraining.state_worker import train

    return train(job, worker)


def train_on_embeddings(job: PretrainJob, worker: Worker) -> PretrainFacts:
    """Run in each worker. Imports torch only here, in the worker's process."""
    from stages.pretraining.embeddings.worker import train

    return train(job, worker)
