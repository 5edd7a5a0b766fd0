"""References to models, as in ``taught_by`` and ``members``: ``teacher``, a name in ``models``, or ``itself``.

The first two may have an epoch: ``teacher:2`` or ``NAME:all``.
"""

import re
from typing import Literal

from stages.specs.base import Frozen

TEACHER = "teacher"
"""The recipe's teacher, the default of ``taught_by``. Reports have this name in the column of methods for its row."""

ITSELF = "itself"
"""The student's own first generation: the same student, start, seed and training, without a teacher."""

BASE = "base"
"""The teacher's model before its fine-tuning, in ``cut.of`` and in ``pretrain.taught_by``."""

ALL = "all"

PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*(:([1-9][0-9]*|all))?$"


class Reference(Frozen):
    """A model of the recipe. ``epoch`` selects the model after that epoch of its training; ``all`` stands for the
    models after each epoch, in order; None is the model that the training ends with, that of the best epoch."""

    name: str
    epoch: int | Literal["all"] | None = None

    def __str__(self) -> str:
        """As a recipe writes it, such as ``teacher:2``."""
        return self.name if self.epoch is None else f"{self.name}:{self.epoch}"


def reference(text: str) -> Reference:
    """The reference that ``text`` writes. ValueError where it does not have the form of one."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError("must be teacher, itself or a name in models, or NAME:2 for an epoch and NAME:all for each")
    name, _, epoch = text.partition(":")
    return Reference(name=name, epoch=ALL if epoch == ALL else int(epoch) if epoch else None)
