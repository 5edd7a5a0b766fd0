"""The stage ``distil``: one student, from its start to a directory that plain transformers loads.

A fine-tuned teacher is a student of hard labels. The work is done in training workers; what lies here
is light, so that planning and the driver need no torch.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus.reader import read_meta
from stages.specs.student import DistilSpec
from stages.specs.tasks import TRAIN
from stages.training.job import Facts, StudentJob


def distil(spec: DistilSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``start``, and ``outputs`` if a teacher is followed.

    Leaves ``model/`` (the best epoch, with tokenizer, label names and card), ``history.json``, and curves in
    ``tensorboard/``.
    """
    on.expect(read_meta(inputs["corpus"]).splits[TRAIN].rows * spec.train.epochs, "rows")
    return on.train(train_student, StudentJob(spec, dict(inputs), out))


def train_student(job: StudentJob, worker: Worker) -> Facts:
    """What each worker does. Heavy modules are imported here, where a stage starts."""
    from stages.training.worker import train

    return train(job, worker)
