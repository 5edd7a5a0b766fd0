"""What a model costs beside what it scores: a table of size, latency and training, and the Pareto front."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.artifacts.latencies import RUNTIMES, MeasuredLatency
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
class MeasuredCost:
    """What ``stillhouse latency`` measured of the models of one task, method and student with one ``runtime`` (the
    models themselves, or exports), batch size, number of threads and processor: means over the ``models`` of different
    seeds. ``speedup`` is over the teacher; None where that was not measured with them."""

    task: str
    method: str
    student: str
    runtime: str
    batch: int
    threads: int
    processor: str
    models: int
    bytes: float
    p50_ms: float
    p95_ms: float
    rows_per_second: float
    speedup: float | None
    last: str

    @property
    def conditions(self) -> tuple[int, int, str]:
        """What has to be equal for two latencies to be comparable."""
        return self.batch, self.threads, self.processor


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A method and student in a chart of score against cost. ``on_front``: no other one is both cheaper (or as cheap)
    and better. ``runtime`` is that of an export, whose score is that of the model of which it was made; '' for the
    model itself."""

    method: str
    student: str
    cost: float
    score: float
    on_front: bool
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class CostPanel:
    """A chart of score against ``cost``, for a task's column (or the mean over tasks): ``parameters`` in millions,
    ``latency`` in ms as the evaluations took it, or as ``stillhouse latency`` has ``measured`` it, under the
    ``conditions``."""

    task: str
    split: str
    metric: str
    cost: str
    points: tuple[CostPoint, ...]
    conditions: str = ""


def cost_lines(rows: Sequence[ReportRow]) -> tuple[CostLine, ...]:
    """A line for each task, method and student that has a model."""
    done = [row for row in rows if row.seed is not None and row.status == "done"]
    latencies = {row.task: row.latency_ms for row in done if row.method == TEACHER}
    return tuple(_cost_line(group, latencies.get(group[0].task)) for group in grouped(done, _model))


def measured_costs(rows: Sequence[ReportRow]) -> tuple[MeasuredCost, ...]:
    """A line for each task, method, student, runtime and conditions that ``stillhouse latency`` has measured."""
    models = {(row.task, row.method, row.student, row.seed): row for row in rows if row.seed is not None}.values()
    pairs = [(row, one) for row in models for one in row.measurements]
    groups: dict[tuple[object, ...], list[tuple[ReportRow, MeasuredLatency]]] = {}
    for row, one in pairs:
        groups.setdefault((*_model(row), one.runtime, *one.conditions), []).append((row, one))
    return tuple(_measured_cost(group) for group in groups.values())


def _measured_cost(group: Sequence[tuple[ReportRow, MeasuredLatency]]) -> MeasuredCost:
    row, first = group[0]
    found = [one for _, one in group]
    return MeasuredCost(
        *_model(row),
        first.runtime,
        *first.conditions,
        models=len({one.seed for one, _ in group}),
        bytes=statistics.fmean(one.bytes for one in found),
        p50_ms=statistics.fmean(one.p50_ms for one in found),
        p95_ms=statistics.fmean(one.p95_ms for one in found),
        rows_per_second=statistics.fmean(one.rows_per_second for one in found),
        speedup=_mean([one.speedup for one in found]),
        last=max(one.measured for one in found),
    )


def measured_panels(tables: Sequence[ScoreTable], measured: Sequence[MeasuredCost]) -> tuple[CostPanel, ...]:
    """For each task of the first table (dev), the chart of score against measured latency, under the conditions under
    which most of its models were measured; of equal ones, those with the smallest batch and the fewest threads."""
    found = []
    for place, column in enumerate(tables[0].columns if tables else ()):
        own = [one for one in measured if one.task == column.task]
        counts = Counter(one.conditions for one in own)
        chosen = min(counts, key=lambda conditions: (-counts[conditions], conditions), default=None)
        scores = {(line.method, line.student): cell.mean for line in tables[0].lines if (cell := line.cells[place])}
        points = [
            (one, score)
            for one in own
            if one.conditions == chosen and (score := scores.get((one.method, one.student))) is not None
        ]
        if chosen is not None and len(points) > 1:
            front = pareto_front([(one.p50_ms, score) for one, score in points])
            marked = tuple(
                CostPoint(
                    one.method,
                    one.student,
                    one.p50_ms,
                    score,
                    (one.p50_ms, score) in front,
                    "" if one.runtime == RUNTIMES[0] else one.runtime,
                )
                for one, score in points
            )
            batch, threads, processor = chosen
            rows, cores = f"{batch} row{'s' * (batch != 1)}", f"{threads} thread{'s' * (threads != 1)}"
            conditions = f"{rows}, {cores} of {processor}"
            found.append(CostPanel(column.task, column.split, column.metric, MEASURED, marked, conditions))
    return tuple(found)


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


def joined_panels(costs: Sequence[CostPanel], measured: Sequence[CostPanel]) -> tuple[CostPanel, ...]:
    """All charts. Where ``stillhouse latency`` has measured every model of a task, its latencies take the place of
    those that the evaluations took, perhaps on several machines."""
    models = {panel.task: {(one.method, one.student) for one in panel.points} for panel in measured}
    kept = [
        panel
        for panel in costs
        if panel.cost != "latency"
        or not {(one.method, one.student) for one in panel.points} <= models.get(panel.task, set())
    ]
    return (*kept, *measured)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, score), those than which no other costs as little or less and scores higher, or costs less and scores
    as high; by rising cost."""
    found: list[tuple[float, float]] = []
    for cost, score in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not found or score > found[-1][1]:
            found.append((cost, score))
    return found


MEASURED = "measured"
"""The cost of the charts of ``measured_panels``."""

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
