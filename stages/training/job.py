"""What the stage ``distil`` passes to its workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.specs.student import DistilSpec

Facts = dict[str, object]
"""The figures that a stage returns for the record of its artifact, by name."""


@dataclass(frozen=True, slots=True)
class StudentJob:
    """One student to train: its spec, the directories of its inputs by name, and the directory to write to.
    ``checkpoint_seconds`` is the least time between two checkpoints."""

    spec: DistilSpec
    inputs: Mapping[str, Path]
    out: Path
    checkpoint_seconds: float = 30.0
