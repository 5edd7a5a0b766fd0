"""The learning rate that a sweep chooses, from the histories of its trainings. Needs the standard library only."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.specs.input_names import RATES, in_order
from stages.specs.student import DistilSpec, rate_text


@dataclass(frozen=True, slots=True)
class RateResult:
    """The selected epoch of a sweep's training at ``rate``: its number from 1, and its ``score`` and ``loss`` on the
    split that selects epochs."""

    rate: float
    epoch: int
    score: float
    loss: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """The results of a sweep in rising order of the rates, and the rate that it chooses."""

    results: Sequence[RateResult]
    best: float

    @property
    def facts(self) -> dict[str, object]:
        """The rate chosen, and by rate the score, the loss and the number of the selected epoch, for the record."""
        found = {
            rate_text(one.rate): {"score": one.score, "loss": one.loss, "epoch": one.epoch} for one in self.results
        }
        return {"learning_rate": self.best, "sweep": found}

    @property
    def warnings(self) -> list[str]:
        """A line if the best of at least three rates is the smallest or the largest, so that a better one may lie
        outside of the sweep; else []. Of two rates, the best is always at an end."""
        ends = {self.results[0].rate: "smallest", self.results[-1].rate: "largest"}
        if len(self.results) < 3 or self.best not in ends:
            return []
        best = f"the best rate, {rate_text(self.best)}, is the {ends[self.best]} of the sweep"
        return [f"{best}; a better one may lie outside"]


def sweep_of(spec: DistilSpec, inputs: Mapping[str, Path]) -> Sweep | None:
    """What the inputs ``rate/0``, ``rate/1`` ... say about the rates of ``spec``; None for a spec without rates.

    The best rate is chosen as an epoch is (``train.select_by``): by the highest score, of equal scores the lowest loss;
    or by the lowest loss, of equal losses the highest score. Of rates that are equal in both, the smallest is the best.
    Raises ValueError for a history that cannot be read.
    """
    if not spec.rates:
        return None
    folders = in_order(RATES, inputs)
    results = [_result(rate, folder) for rate, folder in zip(spec.rates, folders, strict=True)]
    if spec.train.select_by == "likelihood":
        best = min(results, key=lambda one: (one.loss, -one.score, one.rate))
    else:
        best = min(results, key=lambda one: (-one.score, one.loss, one.rate))
    return Sweep(results, best.rate)


def selected_epoch(history: Mapping[str, Any]) -> tuple[int, float, float]:
    """The number of the selected epoch of a ``history.json``, from 1, and its score and loss on the split that selects
    epochs. Raises ValueError, TypeError, KeyError or IndexError for what is no such history."""
    number = history["best_epoch"]
    epoch = history["epochs"][number - 1]
    # Histories of earlier versions have no selection loss.
    return number, float(epoch["score"]), float(epoch.get("selection_loss", math.inf))


def _result(rate: float, folder: Path) -> RateResult:
    path = folder / "history.json"
    try:
        return RateResult(rate, *selected_epoch(json.loads(path.read_text("utf-8"))))
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); run the recipe again") from error


def with_rate(spec: DistilSpec, rate: float) -> DistilSpec:
    """``spec`` with the learning rate that its sweep has chosen."""
    return spec.model_copy(update={"train": spec.train.model_copy(update={"learning_rate": rate})})
