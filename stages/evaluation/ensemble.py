"""The stage ``ensemble``: metrics and predictions of the mean of several models' logits. No model runs: what each says
was left by ``evaluate``."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.corpus.reader import Split, read_meta, read_split
from stages.evaluation.evaluate import ROLES
from stages.evaluation.predictions import Logits, Rows, read_predictions, scored, write_predictions
from stages.specs.evaluation import EnsembleSpec
from stages.specs.input_names import MEMBERS, in_order
from stages.specs.method import shares_or_equal, sum_to_one

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class EnsembleJob:
    """What a worker needs to know to score splits: the members' artifacts and their shares, which sum to 1."""

    members: Sequence[Path]
    shares: Sequence[float]
    corpus: Path
    out: Path


@dataclass(frozen=True, slots=True)
class EnsembleScores:
    """What came out for one split."""

    rows: int
    scores: dict[str, float]


def ensemble(spec: EnsembleSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Inputs: ``corpus``, and ``members/0``, ``members/1`` ... Leaves ``metrics.json`` and
    ``predictions/<split>.parquet``, as ``evaluate`` does. Size and latency are the sums of the members'.

    Members may read the rows in other tokens; ValueError where their rows are others.
    """
    splits = {name: about for name, about in read_meta(inputs["corpus"]).splits.items() if about.role in ROLES}
    members = members_of(inputs)
    job = EnsembleJob(members, shares_of(spec, len(members)), inputs["corpus"], out)
    on.expect(sum(about.rows for about in splits.values()), "rows")
    (out / "predictions").mkdir(exist_ok=True)
    names = list(splits)
    marks = {names[i]: found for i, found in on.map(open_ensemble, job, names)}
    costs = [json.loads((member / "metrics.json").read_text("utf-8")) for member in members]
    metrics = {
        "scores": {name: marks[name].scores for name in names if marks[name].scores},
        "parameters": sum(cost["parameters"] for cost in costs),
        "latency_ms": round(sum(cost["latency_ms"] for cost in costs), 3),
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")
    return {"rows": sum(found.rows for found in marks.values()), **metrics}


def members_of(inputs: Mapping[str, Path]) -> list[Path]:
    """The members in the order of their numbers. ValueError where there is none."""
    found = in_order(MEMBERS, inputs)
    if not found:
        raise ValueError("ensemble: it has no members; name one at least")
    return found


def shares_of(spec: EnsembleSpec, members: int) -> tuple[float, ...]:
    """Each member's part in the mean. ValueError where they are not one a member, together 1."""
    shares = shares_or_equal(spec.shares, members)
    if len(shares) != members:
        raise ValueError(f"ensemble: shares has {len(shares)} for {members} members; give one each")
    if not sum_to_one(shares):
        raise ValueError(f"ensemble: shares {list(shares)} sum to {sum(shares):g}; let them sum to 1")
    return shares


def open_ensemble(job: EnsembleJob, worker: Worker) -> Callable[[str], EnsembleScores]:
    """Nothing is loaded but what members said; what scores are made with is imported when one is."""
    task = read_meta(job.corpus).task

    def mark(name: str) -> EnsembleScores:
        split = read_split(job.corpus, name)
        said = [predictions_of(member, name, split) for member in job.members]
        for member, logits in zip(job.members, said, strict=True):
            if logits.shape[1] != task.outputs:
                raise ValueError(
                    f"{member}: {logits.shape[1]} logits a row, {task.name} has {task.outputs}; "
                    "let members be of one task"
                )
        logits = mean(said, job.shares)
        rows = Rows(split.index, split.keys, split.labels, split.labelled)
        write_predictions(job.out / "predictions" / f"{name}.parquet", task, rows, logits)
        worker.advance(len(split))
        return EnsembleScores(len(split), scored(task, logits, split.labels, split.labelled))

    return mark


def predictions_of(member: Path, name: str, split: Split) -> Logits:
    """[N, outputs]: a member's logits for the rows of the split, in their order. Rows are joined by (index, row key).
    ValueError, naming a row, where the member's are others."""
    path = member / "predictions" / f"{name}.parquet"
    if not path.exists():
        raise ValueError(f"{path}: not there; the members of an ensemble are evaluated on the same splits")
    known, logits = read_predictions(path)
    wanted = list(zip(split.index.tolist(), split.keys, strict=True))
    places = {row: place for place, row in enumerate(known)}
    lacking = [row for row in wanted if row not in places]
    strange = list((Counter(known) - Counter(wanted)).keys())
    if lacking or strange:
        kind, row = ("lacks", lacking[0]) if lacking else ("has besides", strange[0])
        raise ValueError(
            f"{path}: {len(known)} rows for {len(wanted)} of the corpus; it {kind} row {row[0]} ({row[1].hex()}); "
            "let members be of the same rows"
        )
    return logits[[places[row] for row in wanted]]


def mean(said: Sequence[Logits], shares: Sequence[float]) -> Logits:
    """[N, outputs], float32: the sum of shares x logits, in float64, so that equal members are not rounded twice."""
    whole = sum(share * logits.astype(np.float64) for share, logits in zip(shares, said, strict=True))
    found: Logits = np.asarray(whole, np.float64).astype(np.float32)
    return found
