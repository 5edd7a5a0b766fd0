"""A training as it is reported to a tracker."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Leaf = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """A training. ``epochs[i]`` are the metrics after epoch i + 1; ``final`` those of the final model. ``began`` is in
    seconds since 1970."""

    name: str
    parameters: Mapping[str, Leaf]
    epochs: Sequence[Mapping[str, float]]
    final: Mapping[str, float]
    tags: Mapping[str, str]
    began: float
    seconds: float


Tracker = Callable[[TrainingReport], None]
"""Sends a training to one tracker. May raise any exception of its library."""
