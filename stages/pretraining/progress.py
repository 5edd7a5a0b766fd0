"""The state of a pretraining between two steps, and its checkpoint.

Randomness needs no state: the batches of an epoch follow from (seed, epoch), masks from (seed, epoch, step), dropout
from (seed, epoch, step, rank). A checkpoint of another format is refused (``OtherFormat``), never misread.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.checkpoint_file import OtherFormat, damaged, read_checkpoint, write_checkpoint

FORMAT = 1
"""Raised whenever the meaning or the layout of what a checkpoint holds changes."""

State = Mapping[str, Any]
"""The return value of ``state_dict``."""


@dataclass(frozen=True, slots=True)
class HeldOutScore:
    """The score of a model on the held-out texts. Of a masked language model: the mean negative log-likelihood of the
    chosen tokens (``loss``), and the share in percent whose likeliest token is the right one (``accuracy``). Of one
    that follows stored states: the mean loss of a text, and None."""

    loss: float
    accuracy: float | None = None

    def describe(self) -> str:
        """The score in a phrase."""
        return f"held-out loss {self.loss:.4f}" + ("" if self.accuracy is None else f"  accuracy {self.accuracy:.1f}")

    def as_json(self) -> dict[str, float]:
        """The score in ``history.json``, without what it does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class TeacherLosses:
    """The distance from a teacher, as means over all tokens of an epoch's steps, before it is weighted: of the
    probabilities (``soft``) and of the last states (``cosine``, None where these are not compared)."""

    soft: float
    cosine: float | None

    def describe(self) -> str:
        """The distances in a phrase."""
        return f"soft targets {self.soft:.4f}" + ("" if self.cosine is None else f"  cosine {self.cosine:.4f}")


@dataclass(frozen=True, slots=True)
class PretrainingEpoch:
    """An epoch of the history. ``steps`` counts the optimizer steps up to its end, ``seconds`` the training time, over
    all interruptions; ``loss`` is the mean of the main loss in the epoch's steps (of the predicted tokens, or of the
    texts), and ``teacher`` the distance from a teacher that runs in them, None without one."""

    epoch: int
    steps: int
    loss: float
    held_out: HeldOutScore
    seconds: float
    teacher: TeacherLosses | None = None

    def as_json(self) -> dict[str, Any]:
        """The epoch in ``history.json``, without what it does not have."""
        document = {**asdict(self), "held_out": self.held_out.as_json()}
        if self.teacher is None:
            del document["teacher"]
        return document


@dataclass
class PretrainingProgress:
    """The state of a training, apart from the model and the optimizer.

    ``epoch`` counts from 0, and ``step`` is the next step in it. ``before`` is the score on the held-out texts before
    the first step, None until it is measured. For the epoch under way, ``sums`` has the sum of each loss of the
    objective over all items so far, the main loss first, and ``counts`` the numbers of these items; both are empty
    before its first step.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    before: HeldOutScore | None = None
    history: list[PretrainingEpoch] = field(default_factory=list)

    def begin_epoch(self, epoch: int) -> None:
        """Set the position to the start of this epoch, counted from 0."""
        self.epoch, self.step, self.sums, self.counts = epoch, 0, [], []

    @property
    def score(self) -> HeldOutScore:
        """The last score on the held-out texts."""
        last = self.history[-1].held_out if self.history else self.before
        assert last is not None, "the model is measured before its first step"
        return last

    def as_json(self) -> dict[str, Any]:
        """The content of ``history.json``."""
        assert self.before is not None
        return {"before": self.before.as_json(), "epochs": [epoch.as_json() for epoch in self.history]}


def save_progress(path: Path, progress: PretrainingProgress, parts: Mapping[str, State]) -> None:
    """Write the checkpoint, and wait until it is on the disk. ``parts`` has the state of each part of the training by
    its name."""
    kept = asdict(progress)
    sums, counts = kept.pop("sums") or [0.0], kept.pop("counts") or [0]
    # The names of these fields, which are part of the format, are from when masked language models were all there was.
    kept |= {"loss_sum": sums[0], "teacher_sums": sums[1:], "predicted": counts[0], "tokens": counts[-1]}
    write_checkpoint(path, FORMAT, {"progress": kept, "parts": dict(parts)})


def load_progress(path: Path, names: Collection[str]) -> tuple[PretrainingProgress, dict[str, State]] | None:
    """The progress and the states of the parts called ``names``, in host memory; None if there is no checkpoint. Raises
    ``OtherFormat`` for a file that is no checkpoint of this format and of these parts, or that lacks a field or has one
    of another type."""
    document = read_checkpoint(path, FORMAT)
    if document is None:
        return None
    try:
        kept, parts = dict(document["progress"]), dict(document["parts"])
        main, others = kept.pop("loss_sum"), list(kept.pop("teacher_sums"))
        counts = [kept.pop("predicted"), *[kept.pop("tokens")] * len(others)]
        if kept["step"]:
            kept |= {"sums": [main, *others], "counts": counts}
        kept["before"] = None if kept["before"] is None else HeldOutScore(**kept["before"])
        kept["history"] = [_epoch(epoch) for epoch in kept["history"]]
        progress = PretrainingProgress(**kept)
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(FORMAT, error) from error
    if sorted(parts) != sorted(names):
        raise OtherFormat(f"a checkpoint with the parts {sorted(parts)}, the training has {sorted(names)}")
    return progress, parts


def _epoch(kept: Mapping[str, Any]) -> PretrainingEpoch:
    """An epoch of the history, from its fields in a checkpoint. Those of an earlier version have no ``teacher``."""
    teacher = kept.get("teacher")
    losses = None if teacher is None else TeacherLosses(**teacher)
    return PretrainingEpoch(**{**kept, "held_out": HeldOutScore(**kept["held_out"]), "teacher": losses})
