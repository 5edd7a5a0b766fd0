"""What a recipe's artifacts say, as rows: one for each (task, method, student, seed, split, metric)."""

import csv
import html
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.artifact import Record, artifact_path, find
from pipeline.failure import failed
from pipeline.graph import MODEL, Edge, Graph, Node, Outside
from pipeline.recipe import TEACHER
from stages.specs import CorpusSpec
from stages.tasks import Task


@dataclass(frozen=True, slots=True)
class Row:
    """One score. Scores are x 100; ``seconds`` is the training time; ``artifact`` is the model's directory."""

    task: str
    method: str
    student: str
    seed: int
    split: str
    metric: str
    primary: bool
    score: float | None
    last_epoch_score: float | None
    teacher_score: float | None
    student_parameters: int | None
    teacher_parameters: int | None
    seconds: float | None
    status: str
    artifact: str | None
    best_epoch: int | None
    latency_ms: float | None
    key: str


def report(graph: Graph, storage: Path) -> list[Row]:
    """The rows of a graph. What is not there is failed where it, or what it is made of, failed when last tried;
    else it is missing."""
    records = {node.key: find(storage, node.spec.stage, node.key) for node in graph.nodes}
    broken = graph.dependants({key for key, record in records.items() if record is None and failed(storage, key)})
    evaluations = [node for node in graph.wanted if node.role == "evaluate" and node.subject is not None]
    teachers = {node.task: records[node.key] for node in evaluations if node.subject and node.subject.method == TEACHER}
    return [row for node in evaluations for row in _rows(node, records, teachers.get(node.task), storage, broken)]


def _rows(
    node: Node,
    records: dict[str, Record | None],
    teacher: Record | None,
    storage: Path,
    broken: set[str],
) -> list[Row]:
    task, record = task_of(node), records[node.key]
    # An ensemble has no model of its own: neither a place nor a time of training.
    given = node.inputs.get("model")
    made = given.source if isinstance(given, Edge) else None
    standing = records[made.key] if made else None
    # Times and scores of a whole training say nothing of its model after one epoch.
    trained = standing if isinstance(given, Edge) and given.part == MODEL else None
    status = "done" if record else "failed" if node.key in broken else "missing"
    assert node.subject is not None
    directory = given.path if isinstance(given, Outside) else None
    if standing and isinstance(given, Edge):
        directory = artifact_path(storage, standing) / given.part
    return [
        Row(
            task=node.task,
            method=node.subject.method,
            student=node.subject.student,
            seed=node.subject.seed,
            split=split,
            metric=metric,
            primary=metric == task.primary,
            score=_score(record, "scores", split, metric),
            last_epoch_score=_score(trained, "last_epoch_scores", split, metric),
            teacher_score=_score(teacher, "scores", split, metric),
            student_parameters=_fact(record, "parameters"),
            teacher_parameters=_fact(teacher, "parameters"),
            seconds=_fact(trained, "train_seconds"),
            status=status,
            artifact=str(directory) if directory else None,
            best_epoch=_fact(trained, "best_epoch"),
            latency_ms=_fact(record, "latency_ms"),
            key=(made or node).key,
        )
        for split in splits_of(task, record)
        for metric in task.metrics
    ]


def task_of(node: Node) -> Task:
    """The task that a node is about, from its corpus."""
    given = node.inputs["corpus"]
    assert isinstance(given, Edge) and isinstance(given.source.spec, CorpusSpec)
    return given.source.spec.task


def splits_of(task: Task, record: Record | None) -> Sequence[str]:
    """The splits that were scored: the dev splits, and test splits whose labels are public."""
    if record is None:
        return task.dev_splits
    scores = record.facts["scores"]
    assert isinstance(scores, dict)
    return list(scores)


def _score(record: Record | None, name: str, split: str, metric: str) -> float | None:
    found = _fact(record, name) or {}
    value = found.get(split, {}).get(metric)
    return None if value is None else float(value)


def _fact(record: Record | None, name: str) -> Any:
    return None if record is None else record.facts.get(name)


# --- forms ----------------------------------------------------------------------------------------


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(Row)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the results table: one student over its seeds, on one split and metric."""

    task: str
    method: str
    student: str
    measure: str
    score: str
    last: str
    kept: str
    parameters: str
    seconds: str
    status: str


HEADS = (
    "task",
    "method",
    "student",
    "measured",
    "score",
    "last epoch",
    "of teacher",
    "parameters",
    "train time",
    "status",
)


def lines(rows: Sequence[Row], primary_only: bool = False) -> list[Line]:
    """Rows grouped over seeds: mean and, for more than one seed, standard deviation."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.primary or not primary_only:
            groups.setdefault((row.task, row.method, row.student, row.split, row.metric), []).append(row)
    return [_line(group) for group in groups.values()]


def _line(group: list[Row]) -> Line:
    first = group[0]
    scores = [row.score for row in group if row.score is not None]
    kept = [100 * row.score / row.teacher_score for row in group if row.score is not None and row.teacher_score]
    seconds = [row.seconds for row in group if row.seconds is not None]
    status = sorted({row.status for row in group})
    return Line(
        first.task,
        first.method,
        first.student,
        f"{first.split} {first.metric}",
        spread(scores),
        spread([row.last_epoch_score for row in group if row.last_epoch_score is not None]),
        f"{statistics.fmean(kept):.1f}%" if kept and first.method != TEACHER else "",
        f"{first.student_parameters / 1e6:.1f}M" if first.student_parameters else "",
        f"{statistics.fmean(seconds):.1f}s" if seconds else "",
        " ".join(status),
    )


def spread(values: Sequence[float]) -> str:
    """``85.4`` or ``85.4 +- 0.6``: mean and sample standard deviation."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} +- {statistics.stdev(values):.1f}"


WIDE = 120
NARROW_LEAVES_OUT = ("last epoch", "parameters", "train time")
NUMBERS = ("score", "last epoch", "of teacher", "parameters", "train time")


def print_table(rows: Sequence[Row], console: Console, title: str) -> None:
    """The results table in a terminal. A narrow one leaves out what ``report --format csv`` still tells."""
    left_out = set() if console.width >= WIDE else set(NARROW_LEAVES_OUT)
    if all(row.status == "done" for row in rows):
        left_out.add("status")
    shown = [head for head in HEADS if head not in left_out]
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in shown:
        table.add_column(head, justify="right" if head in NUMBERS else "left", overflow="fold")
    for line in lines(rows):
        values = dict(zip(HEADS, astuple(line), strict=True))
        table.add_row(*(values[head] for head in shown), style="red" if "failed" in line.status else "")
    console.print(table)


MOST_PLACES = 12


def print_places(rows: Sequence[Row], console: Console) -> None:
    """Where the students lie, for as many as a screen holds."""
    places = {
        f"{row.method} {row.student} {row.seed} {row.task}": row.artifact
        for row in rows
        if row.status == "done" and row.artifact and row.method != TEACHER
    }
    for name, place in list(places.items())[:MOST_PLACES]:
        console.print(f"{name}: {place}", soft_wrap=True, highlight=False, markup=False)
    if len(places) > MOST_PLACES:
        console.print(f"and {len(places) - MOST_PLACES} more students: see stillhouse report --format json")


def as_html(rows: Sequence[Row], title: str) -> str:
    """One page without scripts or anything from elsewhere."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADS)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(str(getattr(line, field.name)))}</td>" for field in fields(Line))
        + "</tr>\n"
        for line in lines(rows)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1d232b; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .7rem; border-bottom: 1px solid #d5dae0; text-align: right; white-space: nowrap; }}
th {{ background: #f2f4f7; }}
th:nth-child(-n+4), td:nth-child(-n+4), th:last-child, td:last-child {{ text-align: left; }}
p {{ color: #56606c; }}
</style></head><body>
<h1>{html.escape(title)}</h1>
<p>Scores are x 100, mean and sample standard deviation over seeds. "Last epoch" stands beside the epoch that was
selected on held-out rows of train. "Of teacher" is the share of the teacher's score.</p>
<table><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table>
</body></html>
"""
