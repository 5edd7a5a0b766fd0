"""What the stages ``evaluate`` and ``similarity`` send to their workers, and what they return."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stages.specs.evaluation import EvaluateSpec, SimilaritySpec

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """Input of a worker that scores splits."""

    spec: EvaluateSpec
    model: Path
    corpus: Path
    out: Path


@dataclass(frozen=True, slots=True)
class SimilarityJob:
    """Input of a worker that scores pairs by the cosines of their embeddings."""

    spec: SimilaritySpec
    model: Path
    corpus: Path
    out: Path


ScoringJob = TypeVar("ScoringJob", EvaluationJob, SimilarityJob)


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Result for one split: every metric x 100, and the model's number of parameters. ``latency_ms`` is the median time
    of a forward pass over one row, on the worker's threads."""

    rows: int
    scores: dict[str, float]
    parameters: int
    latency_ms: float
