"""The report of a recipe as a page: its parts, from the rows and records of the report, and the HTML of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from pipeline.artifacts.provenance import code_version
from pipeline.errors import RequestError
from pipeline.report.differences import ABOUT_DIFFERENCES, lines_on_differences
from pipeline.report.page.candidate_choice import CandidateChoice, candidate_choices
from pipeline.report.page.costs import (
    CostLine,
    CostPanel,
    MeasuredCost,
    cost_lines,
    cost_panels,
    joined_panels,
    measured_costs,
    measured_panels,
)
from pipeline.report.page.generated_rows import GeneratedExamples, generated_examples
from pipeline.report.page.layer_attention import LayerAttention, layer_attentions
from pipeline.report.page.learning_curves import CurvePanel, curve_panels
from pipeline.report.page.lineage import MethodLineage, ResultCommands, origins
from pipeline.report.page.render import REPORT_TEMPLATE, render
from pipeline.report.page.savings import Savings, savings
from pipeline.report.page.score_tables import ABOUT_TABLE, ScoreTable, score_tables
from pipeline.report.page.time_spent import StageTime, TimePicture, time_by_stage
from pipeline.report.page.trainings import read_trainings
from pipeline.report.rows import ReportRow, Results
from pipeline.report.tables import quarantine_lines, shares

PLOTTING = "matplotlib"
"""The library that draws the charts."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """When and where the artifacts of a report were made: dates of the first and the last commit, versions of the code,
    machines, and the storage that holds them. Dates are '' where nothing is built."""

    first: str
    last: str
    codes: tuple[str, ...]
    machines: tuple[str, ...]
    storage: str
    reported_by: str


@dataclass(frozen=True, slots=True)
class ReportPage:
    """All parts of the page. A part for which there are no data is empty, or None."""

    title: str
    statuses: Mapping[str, int]
    tables: tuple[ScoreTable, ...]
    costs: tuple[CostLine, ...]
    measured: tuple[MeasuredCost, ...]
    cost_panels: tuple[CostPanel, ...]
    curves: tuple[CurvePanel, ...]
    choices: tuple[CandidateChoice, ...]
    attentions: tuple[LayerAttention, ...]
    examples: tuple[GeneratedExamples, ...]
    savings: Savings | None
    stage_times: tuple[StageTime, ...]
    picture: TimePicture | None
    origins: tuple[MethodLineage, ...]
    provenance: Provenance
    commands: ResultCommands
    notes: tuple[str, ...]
    about: str


def report_page(
    results: Results,
    rows: Sequence[ReportRow],
    title: str,
    commands: ResultCommands,
    picture: TimePicture | None = None,
) -> ReportPage:
    """The page for the rows of a report, and the records that they came from. ``picture`` is that of the last run."""
    trainings = read_trainings(results)
    tables, costs, measured = score_tables(rows), cost_lines(rows), measured_costs(rows)
    compared = any(row.baseline is not None for row in rows)
    return ReportPage(
        title=title,
        statuses=_statuses(rows),
        tables=tables,
        costs=costs,
        measured=measured,
        cost_panels=joined_panels(cost_panels(tables, costs), measured_panels(tables, measured)),
        curves=curve_panels(trainings),
        choices=candidate_choices(trainings),
        attentions=layer_attentions(trainings),
        examples=generated_examples(trainings, results.storage),
        savings=savings(results),
        stage_times=time_by_stage(results),
        picture=picture,
        origins=origins(results, rows, commands),
        provenance=_provenance(results),
        commands=commands,
        notes=(*lines_on_differences(rows), *shares(rows), *quarantine_lines(rows)),
        about=f"{ABOUT_TABLE} {ABOUT_DIFFERENCES}" if compared else ABOUT_TABLE,
    )


def report_html(page: ReportPage, rows: Sequence[ReportRow]) -> str:
    """The page as one HTML file that loads nothing else. Raises ImportError without matplotlib; see
    ``check_can_draw``."""
    from pipeline.report.page.charts.draw import draw_charts
    from pipeline.report.page.charts.series import series_of

    series = series_of(rows)
    charts = draw_charts(page.tables, page.cost_panels, page.curves, series)
    return render(REPORT_TEMPLATE, page=page, series=series, charts=charts)


def check_can_draw() -> None:
    """Raise RequestError if the library that draws charts is not installed."""
    if find_spec(PLOTTING) is None:
        raise RequestError(
            f"--format: html draws its charts with {PLOTTING}, which is not installed here; "
            f"pip install -c constraints.txt {PLOTTING}, or use --format table, json or csv"
        )


def _statuses(rows: Sequence[ReportRow]) -> dict[str, int]:
    """The number of models of each status, those that are done first."""
    models = {(row.task, row.method, row.student, row.seed): row.status for row in rows if row.seed is not None}
    statuses = list(models.values())
    return {status: statuses.count(status) for status in sorted(set(statuses), key=lambda one: (one != "done", one))}


def _provenance(results: Results) -> Provenance:
    records = [record for record in results.records.values() if record is not None]
    dates = sorted(record.committed for record in records)
    machines = [
        f"{record.hardware.get('processor')}, {record.hardware.get('cores')} cores"
        + "".join(f", {gpu}" for gpu in _gpus(record.hardware.get("gpus")))
        for record in records
    ]
    return Provenance(
        dates[0] if dates else "",
        dates[-1] if dates else "",
        tuple(sorted({record.code for record in records})),
        tuple(dict.fromkeys(machines)),
        str(results.storage),
        code_version(),
    )


def _gpus(found: object) -> list[str]:
    return sorted({str(gpu) for gpu in found}) if isinstance(found, list | tuple) else []
