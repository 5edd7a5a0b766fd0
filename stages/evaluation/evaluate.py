"""The stage ``evaluate``: metrics and predictions of a model on a corpus, its size and its latency."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.resources import On, Worker
from stages.corpus.reader import read_meta
from stages.evaluation.job import EvaluationJob, Facts, ScoringJob, SplitScores
from stages.specs.evaluation import EvaluateSpec

ROLES = ("dev", "test")


def evaluate(spec: EvaluateSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, ``model``. Writes ``metrics.json`` and ``predictions/<split>.parquet``."""
    return score_splits(EvaluationJob(spec, inputs["model"], inputs["corpus"], out), open_evaluation, on)


def score_splits(
    job: ScoringJob, open_worker: Callable[[ScoringJob, Worker], Callable[[str], SplitScores]], on: On
) -> Facts:
    """Have workers score each dev and test split of the job's corpus; write ``metrics.json``, and return the facts of
    the record: rows, scores by split, parameters, and the median latency of a row."""
    splits = {name: about for name, about in read_meta(job.corpus).splits.items() if about.role in ROLES}
    on.expect(sum(about.rows for about in splits.values()), "rows")
    (job.out / "predictions").mkdir(exist_ok=True)
    names = list(splits)
    results = {names[i]: found for i, found in on.map(open_worker, job, names)}
    metrics = {
        "scores": {name: results[name].scores for name in names if results[name].scores},
        "parameters": results[names[0]].parameters,
        "latency_ms": round(statistics.median(found.latency_ms for found in results.values()), 3),
    }
    (job.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return {"rows": sum(found.rows for found in results.values()), **metrics}


def open_evaluation(job: EvaluationJob, worker: Worker) -> Callable[[str], SplitScores]:
    """Load the model once a worker; return what scores a split. Heavy modules are imported here, where a stage
    starts."""
    from stages.evaluation.worker import EvaluationWorker

    return EvaluationWorker(job, worker).score_split
