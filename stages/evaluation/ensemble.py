"""The stage ``ensemble``: metrics and predictions of the mean of several models' logits. No model runs: the stage
``evaluate`` has stored each member's logits."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.corpus.reader import RowTable, read_meta, read_row_table
from stages.evaluation.evaluate import ROLES
from stages.evaluation.predictions import Logits, Rows, predictions_path, read_predictions, scored, write_predictions
from stages.outputs.entry_logits import EntryLogits
from stages.specs.axes.targets import shares_or_equal, sum_to_one
from stages.specs.evaluation import EnsembleSpec
from stages.specs.input_names import MEMBERS, in_order

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class EnsembleJob:
    """Input of a worker that scores splits: the members' artifacts, and their shares, which sum to 1."""

    members: Sequence[Path]
    shares: Sequence[float]
    corpus: Path
    out: Path


@dataclass(frozen=True, slots=True)
class EnsembleScores:
    """Result for one split: its rows, and every metric x 100."""

    rows: int
    scores: dict[str, float]


def ensemble(spec: EnsembleSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, and ``members/0``, ``members/1`` ... Writes ``metrics.json`` and
    ``predictions/<split>.parquet``, as ``evaluate`` does. Size and latency are the sums of the members'.

    Members may use different tokenizers. Raises ValueError where their rows are not those of the corpus.
    """
    splits = {name: about for name, about in read_meta(inputs["corpus"]).splits.items() if about.role in ROLES}
    members = members_of(inputs)
    job = EnsembleJob(members, shares_of(spec, len(members)), inputs["corpus"], out)
    on.expect(sum(about.rows for about in splits.values()), "rows")
    (out / "predictions").mkdir(exist_ok=True)
    names = list(splits)
    results = {names[i]: found for i, found in on.map(open_ensemble, job, names)}
    costs = [json.loads((member / "metrics.json").read_text("utf-8")) for member in members]
    metrics = {
        "scores": {name: results[name].scores for name in names if results[name].scores},
        "parameters": sum(cost["parameters"] for cost in costs),
        "latency_ms": round(sum(cost["latency_ms"] for cost in costs), 3),
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return {"rows": sum(found.rows for found in results.values()), **metrics}


def members_of(inputs: Mapping[str, Path]) -> list[Path]:
    """The members in the order of their numbers. Raises ValueError where there is none."""
    found = in_order(MEMBERS, inputs)
    if not found:
        raise ValueError("ensemble: it has no members; name one at least")
    return found


def shares_of(spec: EnsembleSpec, members: int) -> tuple[float, ...]:
    """Each member's weight in the mean. Raises ValueError unless there is one for each member and they sum to 1."""
    shares = shares_or_equal(spec.shares, members)
    if len(shares) != members:
        raise ValueError(f"ensemble: shares has {len(shares)} for {members} members; give one each")
    if not sum_to_one(shares):
        raise ValueError(f"ensemble: shares {list(shares)} sum to {sum(shares):g}; let them sum to 1")
    return shares


def open_ensemble(job: EnsembleJob, worker: Worker) -> Callable[[str], EnsembleScores]:
    """Return what scores a split. No model is loaded, and scikit-learn is imported only when a score is computed."""
    task = read_meta(job.corpus).task

    def score_split(name: str) -> EnsembleScores:
        split = read_row_table(job.corpus, name)
        predictions = [predictions_of(member, name, split) for member in job.members]
        for member, logits in zip(job.members, predictions, strict=True):
            if logits.shape[1] != task.outputs:
                raise ValueError(
                    f"{member}: {logits.shape[1]} logits a row, {task.name} has {task.outputs}; "
                    "let members be of one task"
                )
        logits = mean(predictions, job.shares)
        rows = Rows(split.index, split.keys, split.labels, split.labelled, split.words)
        write_predictions(predictions_path(job.out, name), task, rows, logits)
        worker.advance(len(split.keys))
        return EnsembleScores(len(split.keys), scored(task, logits, split.labels, split.labelled, split.words))

    return score_split


def predictions_of(member: Path, name: str, split: RowTable) -> Logits:
    """A member's logits [N, outputs] for the rows of the split, in their order. Rows are joined by (index, row key).
    Raises ValueError, naming a row, where the member's rows are not those of the split."""
    path = predictions_path(member, name)
    if not path.exists():
        raise ValueError(f"{path}: not there; the members of an ensemble are evaluated on the same splits")
    table = read_predictions(path)
    known = list(zip(table.rows.index.tolist(), table.rows.row_keys, strict=True))
    wanted = list(zip(split.index.tolist(), split.keys, strict=True))
    places = {row: place for place, row in enumerate(known)}
    missing = [row for row in wanted if row not in places]
    unknown = list((Counter(known) - Counter(wanted)).keys())
    if missing or unknown:
        kind, row = ("lacks", missing[0]) if missing else ("has besides", unknown[0])
        raise ValueError(
            f"{path}: {len(known)} rows for {len(wanted)} of the corpus; it {kind} row {row[0]} ({row[1].hex()}); "
            "let members be of the same rows"
        )
    chosen = np.array([places[row] for row in wanted], np.int64)
    if table.rows.offsets is not None:
        return EntryLogits(table.logits, np.diff(table.rows.offsets)).take(chosen).values
    return table.logits[chosen]


def mean(predictions: Sequence[Logits], shares: Sequence[float]) -> Logits:
    """The sum of shares x logits, [N, outputs], float32. It is computed in float64, so that the mean of equal members
    equals them."""
    whole = sum(share * logits.astype(np.float64) for share, logits in zip(shares, predictions, strict=True))
    found: Logits = np.asarray(whole, np.float64).astype(np.float32)
    return found
