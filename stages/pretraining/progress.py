"""The state of the training of a masked language model between two steps, and its checkpoint.

Randomness needs no state: the batches of an epoch follow from (seed, epoch), masks from (seed, epoch, step), dropout
from (seed, epoch, step, rank). A checkpoint of another format is refused (``OtherFormat``), never misread.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.checkpoint_file import OtherFormat, damaged, read_checkpoint, write_checkpoint

FORMAT = 1
"""Raised whenever the meaning or the layout of what a checkpoint holds changes."""

PARTS = ("model", "optimizer")
"""The parts of a training whose states a checkpoint holds."""

State = Mapping[str, Any]
"""The return value of ``state_dict``."""


@dataclass(frozen=True, slots=True)
class HeldOutScore:
    """How well a masked language model predicts the tokens chosen of the held-out texts: the mean negative
    log-likelihood (``loss``), and the share in percent whose likeliest token is the right one (``accuracy``)."""

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class MaskedEpoch:
    """An epoch of the history. ``steps`` counts the optimizer steps up to its end, ``seconds`` the training time, over
    all interruptions; ``loss`` is the mean loss of the predicted tokens in the epoch's steps."""

    epoch: int
    steps: int
    loss: float
    held_out: HeldOutScore
    seconds: float


@dataclass
class MaskedProgress:
    """The state of a training, apart from the model and the optimizer.

    ``epoch`` counts from 0, and ``step`` is the next step in it. ``before`` is the score on the held-out texts before
    the first step, None until it is measured. For the epoch under way, ``loss_sum`` is the sum of the losses of
    ``predicted`` tokens.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    predicted: int = 0
    before: HeldOutScore | None = None
    history: list[MaskedEpoch] = field(default_factory=list)

    @property
    def score(self) -> HeldOutScore:
        """The last score on the held-out texts."""
        last = self.history[-1].held_out if self.history else self.before
        assert last is not None, "the model is measured before its first step"
        return last

    def as_json(self) -> dict[str, Any]:
        """The content of ``history.json``."""
        assert self.before is not None
        return {"before": asdict(self.before), "epochs": [asdict(epoch) for epoch in self.history]}


def save_progress(path: Path, progress: MaskedProgress, parts: Mapping[str, State]) -> None:
    """Write the checkpoint, and wait until it is on the disk. ``parts`` has the state of each of ``PARTS``."""
    write_checkpoint(path, FORMAT, {"progress": asdict(progress), "parts": dict(parts)})


def load_progress(path: Path) -> tuple[MaskedProgress, dict[str, State]] | None:
    """The progress and the states of the parts, in host memory; None if there is no checkpoint. Raises ``OtherFormat``
    for a file that is no checkpoint of this format, or that lacks a field or has one of another type."""
    document = read_checkpoint(path, FORMAT)
    if document is None:
        return None
    try:
        kept, parts = dict(document["progress"]), dict(document["parts"])
        kept["before"] = None if kept["before"] is None else HeldOutScore(**kept["before"])
        kept["history"] = [
            MaskedEpoch(**{**epoch, "held_out": HeldOutScore(**epoch["held_out"])}) for epoch in kept["history"]
        ]
        progress = MaskedProgress(**kept)
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(FORMAT, error) from error
    if sorted(parts) != sorted(PARTS):
        raise OtherFormat(f"a checkpoint with the parts {sorted(parts)}, the training has {sorted(PARTS)}")
    return progress, parts
