"""The stage ``distil``: train one student, and leave a directory that plain transformers loads.

Fine-tuning a teacher is the same stage with hard labels as targets. Training runs in workers (``worker.py``); this
module imports no torch, so that planning and the driver do not need it.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus.reader import read_meta
from stages.specs.student import DistilSpec
from stages.specs.tasks import TRAIN
from stages.training.job import Facts, StudentJob


def distil(spec: DistilSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Train the student of ``spec``; return its figures, such as its parameters and its scores.

    Inputs are those that ``DistilSpec`` lists. Writes ``model/`` (the best epoch, with tokenizer, label names and model
    card), ``history.json``, the last epoch's predictions for each dev split and each test split with labels in
    ``predictions/last/``, and curves in ``tensorboard/``.
    """
    on.expect(read_meta(inputs["corpus"]).splits[TRAIN].rows * spec.train.epochs, "rows")
    return on.train(train_student, StudentJob(spec, dict(inputs), out))


def train_student(job: StudentJob, worker: Worker) -> Facts:
    """Run in each worker. Imports torch only here, in the worker's process."""
    from stages.training.worker import train

    return train(job, worker)
