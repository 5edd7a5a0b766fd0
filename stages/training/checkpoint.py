"""A student in the middle of its training, on disk: one file, replaced whole.

Randomness needs no state: every step seeds itself from (seed, phase, epoch, step, rank). What must be
kept is the model, the optimizer, the position, the best epoch so far and the history.
"""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.specs.schedule import Position
from stages.training.losses import TERMS


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch as the history tells it. ``score`` is the primary metric on the split that selects; ``seconds``
    the training time so far, in all sittings."""

    phase: str
    epoch: int
    loss: float
    score: float
    seconds: float
    candidates: dict[str, Any] | None = None

    def told(self) -> dict[str, Any]:
        """For the history: what was done with candidates stands there where there were any."""
        return {name: value for name, value in asdict(self).items() if name != "candidates" or value is not None}


@dataclass
class Progress:
    """Where a training is. ``best`` holds the weights of the best epoch so far. Of this epoch, ``loss`` and ``terms``
    are sums, ``tally`` counts what became of candidates, and ``marks`` are these sums as they stood earlier (see
    ``curves.Sheet``). ``picked`` are the candidates that were last picked for all rows at once."""

    position: Position = field(default_factory=Position)
    loss: float = 0.0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    tally: list[float] = field(default_factory=list)
    picked: Tensor | None = None
    terms: list[float] = field(default_factory=lambda: [0.0] * len(TERMS))
    marks: list[list[float]] = field(default_factory=list)

    @property
    def sums(self) -> list[float]:
        """The loss, its terms, the tally."""
        return [self.loss, *self.terms, *self.tally]

    def take(self, sums: Tensor) -> None:
        """Waits for the device."""
        self.loss, rest = float(sums[0]), sums[1:].tolist()
        self.terms, self.tally = rest[: len(TERMS)], rest[len(TERMS) :]

    def new_epoch(self) -> None:
        """Forget this epoch's sums."""
        self.loss, self.terms, self.tally, self.marks = 0.0, [0.0] * len(TERMS), [], []


def save(path: Path, progress: Progress, model: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
    """Write the checkpoint, or leave the one before in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    document = {
        "position": asdict(progress.position),
        "loss": progress.loss,
        "seconds": progress.seconds,
        "history": [asdict(epoch) for epoch in progress.history],
        "best": progress.best,
        "best_weights": progress.best_weights,
        "tally": progress.tally,
        "picked": progress.picked,
        "terms": progress.terms,
        "marks": progress.marks,
        "model": model,
        "optimizer": optimizer,
    }
    torch.save(document, draft)
    os.replace(draft, path)


def load(path: Path, device: str) -> tuple[Progress, dict[str, Tensor], dict[str, Any]] | None:
    """What ``save`` wrote: progress, model and optimizer; None where there is no checkpoint."""
    if not path.exists():
        return None
    document = torch.load(path, map_location=device, weights_only=True)
    progress = Progress(
        Position(**document["position"]),
        document["loss"],
        document["seconds"],
        [Epoch(**epoch) for epoch in document["history"]],
        document["best"],
        {name: value.cpu() for name, value in document["best_weights"].items()},
        document["tally"],
        None if document["picked"] is None else document["picked"].cpu(),
        document.get("terms", [0.0] * len(TERMS)),
        document.get("marks", []),
    )
    return progress, document["model"], document["optimizer"]
