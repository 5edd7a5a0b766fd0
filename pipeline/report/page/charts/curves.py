"""The chart of learning curves, with the annealing temperature beneath."""

from typing import TYPE_CHECKING

from pipeline.recipe import TEACHER
from pipeline.report.page.charts.series import Series, SeriesTable
from pipeline.report.page.charts.svg import Chart, Marks, chart_of, figure, line_style, styled
from pipeline.report.page.learning_curves import CurvePanel, LearningCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, BENEATH = 360.0, 260.0, 90.0
"""The size of a chart, and the height of the chart of temperatures, in pixels."""


def curve_chart(panel: CurvePanel, series: SeriesTable, prefix: str) -> Chart:
    """The chart of a panel."""
    from matplotlib.ticker import MaxNLocator

    annealed = [curve for curve in panel.curves if curve.temperatures]
    marks = Marks(prefix)
    with styled():
        drawn = figure(WIDTH, HEIGHT + (BENEATH if annealed else 0.0))
        if annealed:
            axes, beneath = drawn.subplots(2, 1, sharex=True, height_ratios=(HEIGHT, BENEATH))
            _draw_temperatures(beneath, annealed, series, marks)
        else:
            axes = beneath = drawn.add_subplot()
        for curve in panel.curves:
            _draw_curve(axes, curve, series[curve.method, curve.student], marks)
        axes.set_ylabel(f"{panel.metric} x 100")
        beneath.set_xlabel("epoch")
        beneath.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        return chart_of(drawn, panel.task, f"Learning curves of {panel.task}", marks)


def _draw_curve(axes: "Axes", curve: LearningCurve, own: Series, marks: Marks) -> None:
    epochs, means = [one.epoch for one in curve.epochs], [one.mean for one in curve.epochs]
    style = line_style(own)
    width = 1.3 if curve.method == TEACHER else 1.7
    if len(epochs) == 1:
        (line,) = axes.plot(epochs, means, "o", color=style["color"], markersize=5)
    else:
        (line,) = axes.plot(epochs, means, linewidth=width, **style)
    marks.add(line, "", own.id)
    # A wide line that is not painted: a line of 1.7 pixels is hard to point at.
    (target,) = axes.plot(epochs, means, linewidth=11, color=style["color"], alpha=0.0)
    marks.add(target, curve_text(curve, own), own.id)


def _draw_temperatures(axes: "Axes", curves: list[LearningCurve], series: SeriesTable, marks: Marks) -> None:
    from matplotlib.ticker import MaxNLocator

    for curve in curves:
        own = series[curve.method, curve.student]
        epochs = range(1, len(curve.temperatures) + 1)
        (line,) = axes.step(epochs, curve.temperatures, where="mid", linewidth=1.7, **line_style(own))
        values = ", ".join(f"{value:g}" for value in curve.temperatures)
        marks.add(line, f"{own.label}\nannealing temperature by epoch: {values}", own.id)
    axes.set_ylabel("temperature")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))


def curve_text(curve: LearningCurve, own: Series) -> str:
    """A curve in lines of text, with the score after each epoch and the range over seeds."""
    head = f"{own.label}, {curve.seeds} seed{'s' if curve.seeds != 1 else ''}"
    return "\n".join([head, *(_epoch_text(curve, place) for place in range(len(curve.epochs)))])


def _epoch_text(curve: LearningCurve, place: int) -> str:
    one = curve.epochs[place]
    spread = f" ({one.low:.1f} to {one.high:.1f})" if curve.seeds > 1 else ""
    return f"epoch {one.epoch}: {one.mean:.1f}{spread}"
