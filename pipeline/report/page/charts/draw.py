"""All charts of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.means import MEAN, MEAN_SPLITS
from pipeline.report.page.charts.costs import cost_chart
from pipeline.report.page.charts.curves import curve_chart
from pipeline.report.page.charts.scores import score_chart
from pipeline.report.page.charts.series import Series, SeriesTable
from pipeline.report.page.charts.svg import Chart
from pipeline.report.page.costs import CostPanel
from pipeline.report.page.learning_curves import CurvePanel
from pipeline.report.page.score_tables import ScoreTable


@dataclass(frozen=True, slots=True)
class ReportCharts:
    """The charts of a page: those of each table of scores by its split, those of costs for the mean over tasks and for
    each task, the learning curves, and the methods in these."""

    scores: Mapping[str, Sequence[Chart]]
    mean_costs: Sequence[Chart]
    task_costs: Sequence[Chart]
    curves: Sequence[Chart]
    curve_series: Sequence[Series]


def draw_charts(
    tables: Sequence[ScoreTable], costs: Sequence[CostPanel], curves: Sequence[CurvePanel], series: SeriesTable
) -> ReportCharts:
    """Draw all charts; each takes about a tenth of a second."""
    scores = {
        table.split: [
            chart
            for place in range(len(table.columns))
            if (chart := score_chart(table, place, series, f"{table.split}{place}")) is not None
        ]
        for table in tables
        if table.split in MEAN_SPLITS
    }
    by_task: dict[bool, list[Chart]] = {True: [], False: []}
    for number, panel in enumerate(costs):
        by_task[panel.task != MEAN].append(cost_chart(panel, series, f"cost{number}"))
    drawn = [curve_chart(panel, series, f"curve{number}") for number, panel in enumerate(curves)]
    in_curves = {(curve.method, curve.student) for panel in curves for curve in panel.curves}
    shown = [one for model, one in series.items() if model in in_curves]
    return ReportCharts(scores, by_task[False], by_task[True], drawn, shown)
