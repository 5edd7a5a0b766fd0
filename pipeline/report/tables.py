"""A report as a table of means over seeds, and its rows as JSON or CSV."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.graph.nodes import ReportedModel, SplitSizes
from pipeline.graph.split_sizes import share_text
from pipeline.recipe import TEACHER
from pipeline.report.differences import (
    difference_text,
    gap_text,
    is_winner,
    lines_on_differences,
)
from pipeline.report.latency_lines import latency_lines, mean_text
from pipeline.report.means import MEAN, grouped, over_tasks
from pipeline.report.rows import ReportRow, flat


def as_json(rows: Sequence[ReportRow]) -> str:
    """A JSON list with an object for each row."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def as_csv(rows: Sequence[ReportRow]) -> str:
    """CSV with a header line and a line for each row."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(ReportRow) if field.name != "measurements"])
    writer.writeheader()
    writer.writerows(map(flat, rows))
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the results table: one student over its seeds, on one split and metric. ``winner``: it scores higher
    than the baseline, as far as the comparison can tell. Every other field is text."""

    task: str
    method: str
    student: str
    measure: str
    score: str
    last: str
    kept: str
    parameters: str
    seconds: str
    teacher_rows: str
    augmented_rows: str
    status: str
    megabytes: str = ""
    latency: str = ""
    speedup: str = ""
    difference: str = ""
    gap_closed: str = ""
    winner: bool = False


HEADS = {
    "task": "task",
    "method": "method",
    "student": "student",
    "measure": "measured",
    "score": "score",
    "difference": "",
    "gap_closed": "gap closed",
    "last": "last epoch",
    "kept": "of teacher",
    "parameters": "parameters",
    "megabytes": "MB",
    "latency": "p50 ms",
    "speedup": "speed-up",
    "seconds": "train time",
    "teacher_rows": "teacher read",
    "augmented_rows": "texts added",
    "status": "status",
}
"""The columns of the table in their order: field of ``Line`` -> heading. That of ``difference`` names the baseline."""
OF_COMPARISONS = ("difference", "gap_closed")
OF_MEASUREMENTS = ("megabytes", "latency", "speedup")


def headings(rows: Sequence[ReportRow]) -> dict[str, str]:
    """The columns for these rows: field of ``Line`` -> heading."""
    baseline = next((row.baseline for row in rows if row.baseline is not None), None)
    measured = any(row.p50_ms is not None for row in rows)
    left_out = {*(OF_COMPARISONS if baseline is None else ()), *(() if measured else OF_MEASUREMENTS)}
    shown = {field: head for field, head in HEADS.items() if field not in left_out}
    return shown if baseline is None else {**shown, "difference": f"vs {baseline}"}


def lines(rows: Sequence[ReportRow]) -> list[Line]:
    """A line for each student, split and metric: mean over seeds and, for several seeds, standard deviation. For
    several tasks, lines with the mean over tasks follow."""
    of_seeds = [row for row in rows if row.seed is not None]
    means = {(row.method, row.student, row.split): row for row in rows if row.seed is None and row.task == MEAN}
    groups = grouped(of_seeds, lambda row: (row.task, row.method, row.student, row.split, row.metric))
    found = [_line(group, group[0]) for group in groups]
    return found + [
        _line(group, means.get((group[0].method, group[0].student, group[0].split))) for group in over_tasks(of_seeds)
    ]


def _line(group: list[ReportRow], compared: ReportRow | None) -> Line:
    """The line of one student's rows; ``compared`` is the row that has the comparison with the baseline."""
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
        _mean_count([row.teacher_rows for row in group if row.teacher_rows is not None]),
        _mean_count([row.augmented_rows for row in group if row.augmented_rows is not None]),
        " ".join(status),
        mean_text([None if row.bytes is None else row.bytes / 1e6 for row in group], ".1f"),
        mean_text([row.p50_ms for row in group], ".2f"),
        mean_text([row.speedup for row in group], ".2f", " x"),
        difference_text(compared) if compared else "",
        gap_text(compared) if compared else "",
        compared is not None and is_winner(compared),
    )


def _mean_count(counts: Sequence[int]) -> str:
    """The mean of counts, as a whole number; '' where there are none."""
    return f"{statistics.fmean(counts):,.0f}" if counts else ""


def spread(values: Sequence[float]) -> str:
    """``85.4`` or ``85.4 +- 0.6``: mean and sample standard deviation."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} +- {statistics.stdev(values):.1f}"


LEFT_OUT_BELOW = {144: ("teacher_rows", "augmented_rows"), 120: ("last", "parameters", "seconds", "megabytes")}
"""Columns of a terminal -> the columns of the table that a narrower one leaves out."""
OF_DIFFERENCES = 40
"""Columns that a comparison takes."""
OF_LATENCIES = 22
"""Columns that measured latencies take."""
TEXTS = ("task", "method", "student", "measure", "status")
"""The columns that are text; all others are numbers."""


def print_table(rows: Sequence[ReportRow], console: Console, title: str) -> None:
    """Print the results table. A narrow terminal leaves out columns, which ``report --format csv`` has."""
    columns = headings(rows)
    width = console.width - (OF_DIFFERENCES if "difference" in columns else 0)
    width -= OF_LATENCIES if "latency" in columns else 0
    left_out = {field for least, group in LEFT_OUT_BELOW.items() if width < least for field in group}
    if all(row.status == "done" for row in rows):
        left_out.add("status")
    shown = {field: head for field, head in columns.items() if field not in left_out}
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for field, head in shown.items():
        table.add_column(head, justify="left" if field in TEXTS else "right", overflow="fold")
    for line in lines(rows):
        style = "red" if "failed" in line.status else "bold" if line.winner else ""
        table.add_row(*(escape(getattr(line, field)) for field in shown), style=style)
    console.print(table)
    for text in (*lines_on_differences(rows), *shares(rows)):
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    for text in latency_lines(rows):
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    for note in quarantine_lines(rows):
        console.print(note, style="yellow", soft_wrap=True, highlight=False, markup=False)


def shares(rows: Sequence[ReportRow]) -> list[str]:
    """For each task one line: how many rows of train its models are trained on."""
    found = {}
    for row in rows:
        if row.trained_rows is not None and row.held_out_rows is not None and row.cut_off_rows is not None:
            sizes = SplitSizes(row.trained_rows, row.held_out_rows, row.cut_off_rows, 0, row.train_rows)
            found[row.task] = share_text(row.task, sizes)
    return list(found.values())


def quarantine_lines(rows: Sequence[ReportRow]) -> list[str]:
    """A line for each task with students that were not trained on all rows of train, because a store has set some
    aside."""
    found: dict[tuple[str, int], dict[str, None]] = {}
    for row in rows:
        if row.quarantined:
            found.setdefault((row.task, row.quarantined), {})[row.method] = None
    return [
        f"{task}: {count:,} rows of train are set aside (store.on_bad_rows), and not trained on by {', '.join(methods)}"
        for (task, count), methods in found.items()
    ]


MAX_PATHS = 12


def _from_here(path: str) -> str:
    """A path below the current folder as a relative one, which is shorter; any other path or URL as it is."""
    return path.removeprefix(f"{Path.cwd()}/")


def print_paths(rows: Sequence[ReportRow], names: Mapping[tuple[str, ReportedModel], str], console: Console) -> None:
    """Print where the students that are done are, of ``MAX_PATHS`` at most: their names in the storage, which stay when
    they are trained again, or else their directories or URLs. ``names`` are those of ``standing_names``."""
    paths = {}
    for row in rows:
        if row.status == "done" and row.artifact and row.method != TEACHER and row.seed is not None:
            model = ReportedModel(row.method, row.student, row.seed)
            paths[f"{row.method} {row.student} {row.seed} {row.task}"] = names.get((row.task, model), row.artifact)
    for name, path in list(paths.items())[:MAX_PATHS]:
        console.print(f"{name}: {_from_here(path)}", soft_wrap=True, highlight=False, markup=False)
    if len(paths) > MAX_PATHS:
        console.print(f"and {len(paths) - MAX_PATHS} more students: see stillhouse report --format json")
