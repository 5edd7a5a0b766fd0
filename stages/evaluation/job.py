"""What the stage ``evaluate`` sends to its workers, and what they return."""

from dataclasses import dataclass
from pathlib import Path

from stages.specs.evaluation import EvaluateSpec

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """What a worker needs to know to score splits."""

    spec: EvaluateSpec
    model: Path
    corpus: Path
    out: Path


@dataclass(frozen=True, slots=True)
class SplitScores:
    """What came out for one split. ``latency_ms`` is the median time of one row at a time, on the worker's threads."""

    rows: int
    scores: dict[str, float]
    parameters: int
    latency_ms: float
