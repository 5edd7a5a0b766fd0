"""The tables of scores: methods by tasks, one table for dev and one for the test splits with labels."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.recipe import TEACHER
from pipeline.report.differences import is_found, is_winner
from pipeline.report.means import DEV, HEADLINE, MEAN, MEAN_SPLITS, grouped, over_tasks
from pipeline.report.rows import ReportRow
from stages.evaluation.seed_interval import seed_interval

FURTHER = "-further"
ABOUT_TABLE = """Scores are x 100: mean and sample standard deviation over seeds, of the epoch that was selected on
held-out rows of train."""


@dataclass(frozen=True, slots=True)
class SeedScore:
    """The score x 100 of the model of one seed; None where it is not built."""

    seed: int
    score: float | None


@dataclass(frozen=True, slots=True)
class MethodDifference:
    """How a method differs from the baseline, as in ``ReportRow``. ``found``: the paired test tells them apart;
    ``winner``: and the method scores higher."""

    baseline: str
    delta: float
    low: float
    high: float
    p: float
    within: float
    gap_closed: float | None
    found: bool
    winner: bool


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """The scores of one method and student in one column: ``mean`` and sample standard deviation ``deviation`` over
    seeds, and the 95 % ``interval`` of the mean; ``of_teacher`` is the mean share in percent of the teacher's score.
    None where there are too few. ``anchor`` is the place on the page that has the artifacts of the cell, '' for a mean
    over tasks. ``not_done`` has the statuses of seeds that are not done, with the number of seeds."""

    task: str
    method: str
    student: str
    split: str
    metric: str
    seeds: tuple[SeedScore, ...]
    mean: float | None
    deviation: float | None
    interval: tuple[float, float] | None
    of_teacher: float | None
    difference: MethodDifference | None
    not_done: tuple[tuple[str, int], ...]
    anchor: str


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """A column of a table: the headline metric on a split of a task, or of the task ``mean`` the mean over tasks."""

    task: str
    split: str
    metric: str
    tasks: int = 1


@dataclass(frozen=True, slots=True)
class MethodScores:
    """A line of a table: a method with a student, a cell for each column (None where it has none)."""

    method: str
    student: str
    cells: tuple[ScoreCell | None, ...]


@dataclass(frozen=True, slots=True)
class StudentScores:
    """The lines of the methods of one student."""

    student: str
    lines: tuple[MethodScores, ...]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The scores on ``split``, which is ``dev`` or ``test``, with ``FURTHER`` after it for metrics other than the
    headline metrics. ``teachers`` are the lines of the teacher and of further
    models, ``students`` those of the methods."""

    split: str
    columns: tuple[ScoreColumn, ...]
    teachers: tuple[MethodScores, ...]
    students: tuple[StudentScores, ...]

    @property
    def title(self) -> str:
        """The heading of the table."""
        name = self.split.removesuffix(FURTHER).capitalize()
        return f"{name}, further metrics" if self.split.endswith(FURTHER) else name

    @property
    def lines(self) -> tuple[MethodScores, ...]:
        """All lines, in their order on the page."""
        return (*self.teachers, *(line for student in self.students for line in student.lines))


def score_tables(rows: Sequence[ReportRow]) -> tuple[ScoreTable, ...]:
    """The table of the headline scores on dev, and that on the test splits, where any has labels; then a table of
    further metrics for each, where tasks have any."""
    of_seeds = [row for row in rows if row.seed is not None]
    comparisons = {_measured(row): row for row in rows if row.baseline is not None}
    means = [group for group in over_tasks(of_seeds) if group[0].metric == HEADLINE]
    found = []
    for split in MEAN_SPLITS:
        headlines = [row for row in of_seeds if row.primary and row.dev == (split == DEV)]
        if headlines:
            found.append(_table(split, headlines, [one for one in means if one[0].split == split], comparisons))
    for split in MEAN_SPLITS:
        further = [row for row in of_seeds if not row.primary and row.dev == (split == DEV)]
        if further:
            found.append(_table(f"{split}{FURTHER}", further, (), comparisons))
    return tuple(found)


def anchor_of(task: str, method: str, student: str) -> str:
    """The id of the element of the page that has the artifacts of these models."""
    return "m-" + hashlib.sha256("\0".join((task, method, student)).encode()).hexdigest()[:12]


def is_student(method: str) -> bool:
    """Whether the models of a method are students: neither the teacher nor one of the recipe's further ``models``."""
    return method != TEACHER and ":" not in method


Measured = tuple[str, str, str, str, str]


def _measured(row: ReportRow) -> Measured:
    return row.task, row.method, row.student, row.split, row.metric


def _table(
    split: str,
    headlines: Sequence[ReportRow],
    means: Sequence[Sequence[ReportRow]],
    comparisons: Mapping[Measured, ReportRow],
) -> ScoreTable:
    columns = [ScoreColumn(*one) for one in dict.fromkeys((row.task, row.split, row.metric) for row in headlines)]
    by_place: dict[tuple[str, str, ScoreColumn], ScoreCell] = {}
    for group in grouped(headlines, _measured):
        first = group[0]
        column = ScoreColumn(first.task, first.split, first.metric)
        by_place[first.method, first.student, column] = _cell(group, comparisons.get(_measured(first)))
    tasks = len({column.task for column in columns})
    over_all = ScoreColumn(MEAN, split, HEADLINE, tasks)
    for mean in means:
        first = mean[0]
        compared = comparisons.get((MEAN, first.method, first.student, split, HEADLINE))
        by_place[first.method, first.student, over_all] = _cell(mean, compared)
    if means:
        columns.append(over_all)
    lines = [
        MethodScores(method, student, tuple(by_place.get((method, student, column)) for column in columns))
        for method, student in dict.fromkeys((row.method, row.student) for row in headlines)
    ]
    students = dict.fromkeys(line.student for line in lines if is_student(line.method))
    return ScoreTable(
        split,
        tuple(columns),
        tuple(line for line in lines if not is_student(line.method)),
        tuple(
            StudentScores(name, tuple(line for line in lines if line.student == name and is_student(line.method)))
            for name in students
        ),
    )


def _cell(group: Sequence[ReportRow], compared: ReportRow | None) -> ScoreCell:
    first = group[0]
    scores = [row.score for row in group if row.score is not None]
    kept = [100 * row.score / row.teacher_score for row in group if row.score is not None and row.teacher_score]
    over_tasks = first.metric == HEADLINE
    return ScoreCell(
        task=MEAN if over_tasks else first.task,
        method=first.method,
        student=first.student,
        split=first.split,
        metric=first.metric,
        seeds=tuple(SeedScore(row.seed, row.score) for row in group if row.seed is not None),
        mean=statistics.fmean(scores) if scores else None,
        deviation=statistics.stdev(scores) if len(scores) > 1 else None,
        interval=seed_interval(scores),
        of_teacher=statistics.fmean(kept) if kept and first.method != TEACHER else None,
        difference=difference_of(compared),
        not_done=tuple(sorted(Counter(row.status for row in group if row.status != "done").items())),
        anchor="" if over_tasks else anchor_of(first.task, first.method, first.student),
    )


def difference_of(row: ReportRow | None) -> MethodDifference | None:
    """The comparison that a row has; None for one that has none."""
    if row is None or None in (row.baseline, row.delta, row.low, row.high, row.p, row.within):
        return None
    assert row.baseline is not None and row.delta is not None and row.low is not None and row.high is not None
    assert row.p is not None and row.within is not None
    return MethodDifference(
        row.baseline, row.delta, row.low, row.high, row.p, row.within, row.gap_closed, is_found(row), is_winner(row)
    )
