"""A student as the stage ``distil`` sends it to its workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.specs.student import DistilSpec

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class StudentJob:
    """A student as it is sent to its workers. ``checkpoint_seconds`` is the least time between checkpoints."""

    spec: DistilSpec
    inputs: Mapping[str, Path]
    out: Path
    checkpoint_seconds: float = 30.0
