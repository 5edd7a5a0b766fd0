"""Who teaches, as a recipe says it: ``teacher``, a name in ``models``, either after an epoch, or ``itself``."""

import re
from typing import Literal

from stages.specs.base import Frozen

TEACHER = "teacher"
"""Who teaches unless a method says otherwise; also the teacher's method in a report."""

ITSELF = "itself"
"""The student's own first generation: the same student, start, seed and training, without a teacher."""

ALL = "all"

PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*(:([1-9][0-9]*|all))?$"


class Reference(Frozen):
    """A model that teaches. ``epoch`` is the epoch of its training after which it is meant; ``all`` stands for each
    of them in order; None for the model that its training ends with."""

    name: str
    epoch: int | Literal["all"] | None = None

    def __str__(self) -> str:
        """As a recipe writes it, such as ``teacher:2``."""
        return self.name if self.epoch is None else f"{self.name}:{self.epoch}"


def reference(text: str) -> Reference:
    """ValueError for what names no model."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError("must be teacher, itself or a name in models, or NAME:2 for an epoch and NAME:all for each")
    name, _, epoch = text.partition(":")
    return Reference(name=name, epoch=ALL if epoch == ALL else int(epoch) if epoch else None)
