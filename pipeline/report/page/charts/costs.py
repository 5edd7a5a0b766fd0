"""The chart of score against size or latency, with the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.recipe import TEACHER
from pipeline.report.means import MEAN
from pipeline.report.page.charts.series import SeriesTable
from pipeline.report.page.charts.svg import PAINT, Chart, Marks, chart_of, figure, styled
from pipeline.report.page.costs import CostPanel, CostPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 360.0, 260.0
APART = (0.25, 0.07)
"""Labels of points that are nearer than these shares of the width and of the height would run into each other."""


@dataclass(frozen=True, slots=True)
class CostAxis:
    """How a cost is shown: in the title, as the label of the axis, and in ``unit`` of which a value has ``factor``."""

    title: str
    label: str
    unit: str
    factor: float = 1.0


AXES = {
    "parameters": CostAxis("by size", "parameters, millions", "million parameters", 1e6),
    "latency": CostAxis("by latency", "latency of one row, ms", "ms for a row"),
    "measured": CostAxis("by measured latency", "median latency of a batch, ms", "ms for a batch"),
}


def cost_chart(panel: CostPanel, series: SeriesTable, prefix: str) -> Chart:
    """The chart of a panel."""
    from matplotlib.ticker import MaxNLocator

    marks, shown = Marks(prefix), AXES[panel.cost]
    title = f"{'Mean over tasks' if panel.task == MEAN else panel.task}, {shown.title}"
    front = sorted((one for one in panel.points if one.on_front), key=lambda one: one.cost)
    with styled():
        drawn = figure(WIDTH, HEIGHT)
        axes = drawn.add_subplot()
        axes.plot(
            [one.cost / shown.factor for one in front],
            [one.score for one in front],
            color=PAINT["accent"],
            linewidth=1.4,
            alpha=0.6,
            drawstyle="steps-post",
        )
        for one in panel.points:
            own = series[one.method, one.student]
            point = axes.plot(
                [one.cost / shown.factor],
                [one.score],
                "D" if one.method == TEACHER else "s" if one.runtime else "o",
                color=PAINT[own.colour],
                markersize=8,
                markeredgecolor=PAINT["back"],
                markeredgewidth=1.2,
            )
            marks.add(point[0], _text(one, own.label, panel, shown), own.id)
        axes.margins(x=0.12, y=0.14)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_xlabel(shown.label)
        axes.set_ylabel(f"{panel.metric} x 100")
        _label(axes, [(one.cost / shown.factor, one.score, _name(one, series)) for one in front])
        return chart_of(drawn, title, f"Score against {panel.cost}, {title}", marks)


def _name(point: CostPoint, series: SeriesTable) -> str:
    label = series[point.method, point.student].label
    return f"{label}, {point.runtime}" if point.runtime else label


def _text(point: CostPoint, label: str, panel: CostPanel, axis: CostAxis) -> str:
    export = [f"as {point.runtime}, with the score of the model that was exported"] if point.runtime else []
    front = ["on the Pareto front"] if point.on_front else []
    cost = f"{point.cost / axis.factor:.3g} {axis.unit}"
    conditions = [panel.conditions] if panel.conditions else []
    return "\n".join([label, *export, f"{point.score:.2f} {panel.metric}", cost, *conditions, *front])


def _label(axes: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Write the names of points beside them, those with the highest scores first, where there is room."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    placed: list[tuple[float, float]] = []
    for x, y, label in sorted(points, key=lambda point: -point[1]):
        place = (x - left) / (right - left), (y - low) / (high - low)
        if all(abs(place[0] - one[0]) > APART[0] or abs(place[1] - one[1]) > APART[1] for one in placed):
            placed.append(place)
            before = place[0] > 0.6
            axes.annotate(
                label,
                (x, y),
                xytext=(-8 if before else 8, 7),
                textcoords="offset points",
                ha="right" if before else "left",
            )
