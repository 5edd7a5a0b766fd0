"""What the stage ``pretrain`` passes to its workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.specs.pretraining import PretrainSpec

CHECKPOINT = "scratch/checkpoint.pt"
"""The file of a work directory that holds the checkpoint."""

SCRATCH_TEXTS = "scratch/texts"
"""The folder of a work directory in which the tokenised texts lie while the model is trained."""

PretrainFacts = dict[str, object]
"""The figures that the stage returns for the record of its artifact, by name."""


@dataclass(frozen=True, slots=True)
class PretrainJob:
    """A model to pretrain: its spec, the directories of its inputs by name, and the directory to write to, which for a
    masked language model holds the tokenised texts. ``checkpoint_seconds`` is the least time between two
    checkpoints."""

    spec: PretrainSpec
    inputs: Mapping[str, Path]
    out: Path
    checkpoint_seconds: float = 30.0
