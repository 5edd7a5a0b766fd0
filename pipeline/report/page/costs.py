"""What a model costs beside what it scores: a table of size, latency and training, and the Pareto front."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.recipe import TEACHER
from pipeline.report.means import MEAN, grouped
from pipeline.report.page.score_tables import ScoreTable
from pipeline.report.rows import ReportRow


@dataclass(frozen=True, slots=True)
class CostLine:
    """Means over the models of one task, method and student; None where unknown. ``parameters`` and ``latency_ms`` (one
    row at a time, as measured by the evaluation) are also given as ``smaller`` and ``faster``, the teacher's over the
    model's. ``seconds`` is the training time; ``teacher_rows`` and ``augmented_rows`` are as in ``ReportRow``."""

    task: str
    method: str
    student: str
    parameters: float | None
    smaller: float | None
    latency_ms: float | None
    faster: float | None
    seconds: float | None
    teacher_rows: float | None
    augmented_rows: float | None
    learning_rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A method and student in a chart of score against cost. ``on_front``: no other one is both cheaper (or as cheap)
    and better."""

    method: str
    student: str
    cost: float
    score: float
    on_front: bool


@dataclass(frozen=True, slots=True)
class CostPanel:
    """A chart of score against ``cost``, ``parameters`` in millions or ``latency`` in ms, for a task's column (or the
    mean over tasks)."""

    task: str
    split: str
    metric: str
    cost: str
    points: tuple[CostPoint, ...]


def cost_lines(rows: Sequence[ReportRow]) -> tuple[CostLine, ...]:
    """A line for each task, method and student that has a model."""
    done = [row for row in rows if row.seed is not None and row.status == "done"]
    latencies = {row.task: row.latency_ms for row in done if row.method == TEACHER}
    return tuple(_cost_line(group, latencies.get(group[0].task)) for group in grouped(done, _model))


def cost_panels(tables: Sequence[ScoreTable], lines: Sequence[CostLine]) -> tuple[CostPanel, ...]:
    """The charts of the first table (dev): for the mean over tasks first, then for each task. A chart needs two
    different costs."""
    if not tables:
        return ()
    table = tables[0]
    found = []
    for place in sorted(range(len(table.columns)), key=lambda place: table.columns[place].task != MEAN):
        column = table.columns[place]
        for cost, value in COSTS.items():
            points = []
            for line in table.lines:
                cell = line.cells[place]
                amount = _mean([value(one) for one in lines if _of(one, line.method, line.student, column.task)])
                if cell is not None and cell.mean is not None and amount is not None:
                    points.append((line.method, line.student, amount, cell.mean))
            if len({amount for _, _, amount, _ in points}) > 1:
                front = pareto_front([(amount, score) for _, _, amount, score in points])
                marked = tuple(CostPoint(*point, on_front=(point[2], point[3]) in front) for point in points)
                found.append(CostPanel(column.task, column.split, column.metric, cost, marked))
    return tuple(found)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, score), those than which no other costs as little or less and scores higher, or costs less and scores
    as high; by rising cost."""
    found: list[tuple[float, float]] = []
    for cost, score in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not found or score > found[-1][1]:
            found.append((cost, score))
    return found


COSTS: dict[str, Callable[[CostLine], float | None]] = {
    "parameters": lambda line: line.parameters,
    "latency": lambda line: line.latency_ms,
}
"""The costs of the charts: name -> the value of a line."""


def _model(row: ReportRow) -> tuple[str, str, str]:
    return row.task, row.method, row.student


def _of(line: CostLine, method: str, student: str, task: str) -> bool:
    return (line.method, line.student) == (method, student) and task in (MEAN, line.task)


def _cost_line(group: Sequence[ReportRow], teacher_latency: float | None) -> CostLine:
    first, models = group[0], list({(row.key, row.seed): row for row in group}.values())
    parameters = _mean([row.student_parameters for row in models])
    latency = _mean([row.latency_ms for row in models])
    student = first.method != TEACHER
    return CostLine(
        *_model(first),
        parameters=parameters,
        smaller=first.teacher_parameters / parameters if student and parameters and first.teacher_parameters else None,
        latency_ms=latency,
        faster=teacher_latency / latency if student and latency and teacher_latency else None,
        seconds=_mean([row.seconds for row in models]),
        teacher_rows=_mean([row.teacher_rows for row in models]),
        augmented_rows=_mean([row.augmented_rows for row in models]),
        learning_rates=tuple(sorted({row.learning_rate for row in models if row.learning_rate is not None})),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
