"""Two tiny tasks that tests of stages share, a classification and a regression, and a teacher for each."""

from pathlib import Path

import torch

from stages.models.loading import build
from stages.specs.student import Pretrained
from stages.specs.tasks import Task

TINY = Task(name="tiny", text=("sentence",), labels=("bad", "good"), test=("test",))
PAIRS = Task(name="pairs", text=("one", "two"), metrics=("pearson", "spearman"))


def write_teacher(encoder: Path, task: Task, directory: Path) -> Path:
    """Write a teacher to ``directory``: the encoder with a random head for ``task``."""
    torch.manual_seed(3)
    build(Pretrained(), encoder, task).save_pretrained(directory)
    return directory
