"""The job that the stage ``neighbours`` sends to its workers."""

from dataclasses import dataclass
from pathlib import Path

from stages.retrieval.embeddings import Embeddings
from stages.specs.candidates import NeighboursSpec
from stages.specs.retrieval import ModelEncoder


@dataclass(frozen=True, slots=True)
class NeighbourJob:
    """What a worker needs to search neighbours. ``index`` and ``encoder`` are None for TF-IDF."""

    spec: NeighboursSpec
    corpus: Path
    bank: Path
    embeddings: Path
    index: Path | None
    encoder: Path | None
    out: Path


def encoder_of(embeddings: Embeddings) -> ModelEncoder:
    """The settings of the encoder that made the embeddings, which must encode queries too."""
    return ModelEncoder.model_validate(embeddings.facts["encoder"])
