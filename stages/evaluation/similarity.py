"""The stage ``similarity``: the cosines that a sentence encoder gives for pairs of texts, and their correlations with
the pairs' scores.

    predictions/<split>.parquet   the cosine of each pair, in the form of the values of a regression
    metrics.json                  scores by split, parameters, latency
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.resources import On, Worker
from stages.evaluation.evaluate import score_splits
from stages.evaluation.job import Facts, SimilarityJob, SplitScores
from stages.specs.evaluation import SimilaritySpec


def similarity(spec: SimilaritySpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, whose rows are pairs with a score, and ``model``. Writes ``metrics.json`` and
    ``predictions/<split>.parquet``."""
    return score_splits(SimilarityJob(spec, inputs["model"], inputs["corpus"], out), open_similarity, on)


def open_similarity(job: SimilarityJob, worker: Worker) -> Callable[[str], SplitScores]:
    """Load the model once a worker; return what scores a split. Heavy modules are imported here, where a stage
    starts."""
    from stages.evaluation.similarity_worker import SimilarityWorker

    return SimilarityWorker(job, worker).score_split
