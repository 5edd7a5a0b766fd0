"""A report as a table of means over seeds, and its rows as JSON, CSV or an HTML page."""

import csv
import html
import io
import json
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.graph.nodes import SplitSizes
from pipeline.graph.split_sizes import share_text
from pipeline.recipe import TEACHER
from pipeline.report.rows import ReportRow


def as_json(rows: Sequence[ReportRow]) -> str:
    """A JSON list with an object for each row."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def as_csv(rows: Sequence[ReportRow]) -> str:
    """CSV with a header line and a line for each row."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(ReportRow)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the results table: one student over its seeds, on one split and metric. Every field is text."""

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


def lines(rows: Sequence[ReportRow]) -> list[Line]:
    """A line for each student, split and metric: mean over seeds and, for several seeds, standard deviation. For
    several tasks, lines with the mean over tasks follow."""
    groups = _grouped(rows, lambda row: (row.task, row.method, row.student, row.split, row.metric))
    return [_line(group) for group in (*groups, *over_tasks(rows))]


def over_tasks(rows: Sequence[ReportRow]) -> list[list[ReportRow]]:
    """For each method and student of several tasks, a row for each seed: the mean over tasks of the headline metric on
    dev, where a task with several dev splits counts once, with their mean. Seeds that are not done in every task are
    left out. A teacher, which is the same for all seeds, has one row."""
    found = []
    for group in _grouped([row for row in rows if row.primary and row.dev], lambda row: (row.method, row.student)):
        tasks = list(dict.fromkeys(row.task for row in group))
        seeds = [seed for seed in dict.fromkeys(row.seed for row in group) if _complete(group, tasks, seed)]
        if len(tasks) > 1 and seeds:
            found.append([_mean_row([row for row in group if row.seed == seed], tasks) for seed in seeds])
    return found


def _grouped(rows: Sequence[ReportRow], key: Callable[[ReportRow], Hashable]) -> list[list[ReportRow]]:
    groups: dict[Hashable, list[ReportRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _complete(rows: Sequence[ReportRow], tasks: Sequence[str], seed: int) -> bool:
    here = [row for row in rows if row.seed == seed]
    return {row.task for row in here} == set(tasks) and all(row.status == "done" for row in here)


def _mean_row(rows: Sequence[ReportRow], tasks: Sequence[str]) -> ReportRow:
    """The mean of one seed's rows over tasks."""

    def mean(field: str) -> float | None:
        each = [[getattr(row, field) for row in rows if row.task == task] for task in tasks]
        known = [statistics.fmean(values) for values in each if None not in values]
        return statistics.fmean(known) if len(known) == len(tasks) else None

    return replace(
        rows[0],
        task=f"mean of {len(tasks)} tasks",
        split="dev",
        metric="headline",
        score=mean("score"),
        last_epoch_score=mean("last_epoch_score"),
        teacher_score=mean("teacher_score"),
        seconds=mean("seconds"),
        artifact=None,
        best_epoch=None,
        latency_ms=mean("latency_ms"),
        candidates=None,
        quarantined=None,
        train_rows=None,
        trained_rows=None,
        held_out_rows=None,
        cut_off_rows=None,
    )


def _line(group: list[ReportRow]) -> Line:
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
"""Columns from which on a terminal shows the whole table."""
NARROW_LEAVES_OUT = ("last epoch", "parameters", "train time")
NUMBERS = ("score", "last epoch", "of teacher", "parameters", "train time")


def print_table(rows: Sequence[ReportRow], console: Console, title: str) -> None:
    """Print the results table. A narrow terminal leaves out columns, which ``report --format csv`` has."""
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
    for share in shares(rows):
        console.print(share, soft_wrap=True, highlight=False, markup=False)
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


def print_paths(rows: Sequence[ReportRow], console: Console) -> None:
    """Print the directories or URLs of the students that are done, of ``MAX_PATHS`` at most."""
    paths = {
        f"{row.method} {row.student} {row.seed} {row.task}": row.artifact
        for row in rows
        if row.status == "done" and row.artifact and row.method != TEACHER
    }
    for name, path in list(paths.items())[:MAX_PATHS]:
        console.print(f"{name}: {path}", soft_wrap=True, highlight=False, markup=False)
    if len(paths) > MAX_PATHS:
        console.print(f"and {len(paths) - MAX_PATHS} more students: see stillhouse report --format json")


ABOUT_SCORES = """Scores are x 100, mean and sample standard deviation over seeds. "Last epoch" stands beside the epoch
that was selected on held-out rows of train. "Of teacher" is the share of the teacher's score."""


def as_html(rows: Sequence[ReportRow], title: str) -> str:
    """One HTML page, without scripts, that loads nothing else."""
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
<p>{ABOUT_SCORES}</p>
{html_table(rows)}
{"".join(f"<p>{html.escape(line)}</p>" for line in (*shares(rows), *quarantine_lines(rows)))}
</body></html>
"""


def html_table(rows: Sequence[ReportRow]) -> str:
    """The results table as an HTML element."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADS)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(str(getattr(line, field.name)))}</td>" for field in fields(Line))
        + "</tr>\n"
        for line in lines(rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
