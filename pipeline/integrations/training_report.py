"""A training as it is reported to a tracker."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Leaf = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """A training as a tracker hears of it. ``epochs[i]`` are the metrics after epoch i + 1; ``ends`` those of the
    model. ``began`` is in seconds since 1970."""

    name: str
    parameters: Mapping[str, Leaf]
    epochs: Sequence[Mapping[str, float]]
    ends: Mapping[str, float]
    tags: Mapping[str, str]
    began: float
    seconds: float


Tracker = Callable[[TrainingReport], None]
"""Tells one tracker of a training. May raise anything."""
