"""The stage ``evaluate``: metrics and predictions of a model on a corpus, its size and its latency."""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus_reader import read_meta
from stages.specs import EvaluateSpec

Facts = dict[str, object]

ROLES = ("dev", "test")


@dataclass(frozen=True, slots=True)
class Exam:
    """What a worker needs to know to score splits."""

    spec: EvaluateSpec
    model: Path
    corpus: Path
    out: Path


@dataclass(frozen=True, slots=True)
class Marks:
    """What came out for one split. ``latency_ms`` is the median time of one row at a time, on the worker's threads."""

    rows: int
    scores: dict[str, float]
    parameters: int
    latency_ms: float


def evaluate(spec: EvaluateSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``model``. Leaves ``metrics.json`` and ``predictions/<split>.parquet``."""
    splits = {name: about for name, about in read_meta(inputs["corpus"]).splits.items() if about.role in ROLES}
    on.expect(sum(about.rows for about in splits.values()), "rows")
    (out / "predictions").mkdir(exist_ok=True)
    exam = Exam(spec, inputs["model"], inputs["corpus"], out)
    names = list(splits)
    marks = {names[i]: found for i, found in on.map(open_exam, exam, names)}
    metrics = {
        "scores": {name: marks[name].scores for name in names if marks[name].scores},
        "parameters": marks[names[0]].parameters,
        "latency_ms": round(statistics.median(found.latency_ms for found in marks.values()), 3),
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return {"rows": sum(found.rows for found in marks.values()), **metrics}


def open_exam(exam: Exam, worker: Worker) -> Callable[[str], Marks]:
    """Load the model once a worker. Heavy modules are imported here, where a stage starts."""
    from stages.examiner import Examiner

    return Examiner(exam, worker).mark
