"""The chart of scores: for each method the mean, its interval over seeds and the scores of the seeds."""

from pipeline.recipe import TEACHER
from pipeline.report.means import MEAN
from pipeline.report.page.charts.series import SeriesTable
from pipeline.report.page.charts.svg import PAINT, Chart, Marks, chart_of, figure, styled
from pipeline.report.page.score_tables import ScoreCell, ScoreColumn, ScoreTable, is_student

WIDTH, LINE, FRAME = 360.0, 19.0, 58.0
"""The width of a chart, and the height of a line and of all else, in pixels."""
LONGEST_LABEL = 24


def score_chart(table: ScoreTable, place: int, series: SeriesTable, prefix: str) -> Chart | None:
    """The chart of the column at ``place``; None for a column without scores of students."""
    column = table.columns[place]
    cells = [cell for line in table.lines if (cell := line.cells[place]) is not None and cell.mean is not None]
    shown = [cell for cell in cells if is_student(cell.method)]
    teacher = next((cell for cell in cells if cell.method == TEACHER), None)
    if not shown:
        return None
    marks = Marks(prefix)
    with styled():
        drawn = figure(WIDTH, FRAME + LINE * len(shown))
        axes = drawn.add_subplot()
        for y, cell in enumerate(shown):
            assert cell.mean is not None
            winner = cell.difference is not None and cell.difference.winner
            colour = PAINT["accent" if winner else "ink"]
            name = series[cell.method, cell.student].id
            if cell.interval is not None:
                bar = axes.plot(cell.interval, (y, y), color=colour, linewidth=1.6, alpha=0.55, solid_capstyle="round")
                marks.add(bar[0], "", name)
            scores = [one.score for one in cell.seeds if one.score is not None]
            if len(scores) > 1:
                seeds = axes.plot(scores, [y] * len(scores), "|", color=PAINT["soft"], markersize=7, alpha=0.7)
                marks.add(seeds[0], "", name)
            point = axes.plot(
                [cell.mean], [y], "o", color=colour, markersize=7, markeredgecolor=PAINT["back"], markeredgewidth=1.2
            )
            marks.add(point[0], cell_text(cell), name)
        if teacher is not None and teacher.mean is not None:
            line = axes.axvline(teacher.mean, color=PAINT["soft"], linewidth=1.2, linestyle=(0, (4, 3)))
            marks.add(line, cell_text(teacher), "teacher", focus=False)
        axes.set_yticks(range(len(shown)), [short_label(series[cell.method, cell.student].label) for cell in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.08)
        axes.set_xlabel(metric_label(column))
        return chart_of(drawn, column_title(column), f"Scores on {column_title(column)}", marks)


def column_title(column: ScoreColumn) -> str:
    """The task and the split of a column: ``stsb, validation``, or ``Mean of 2 tasks``."""
    return f"Mean of {column.tasks} tasks" if column.task == MEAN else f"{column.task}, {column.split}"


def metric_label(column: ScoreColumn) -> str:
    """What the axis of a column's scores shows."""
    return f"{column.metric} x 100"


def cell_text(cell: ScoreCell) -> str:
    """A cell in lines of text: the mean over seeds, its interval, and the difference from the baseline."""
    seeds = sum(one.score is not None for one in cell.seeds)
    lines = [f"{cell.method}, {cell.student}"]
    spread = f" ± {cell.deviation:.2f}" if cell.deviation is not None else ""
    lines.append(f"{cell.mean:.2f}{spread} over {seeds} seed{'s' if seeds != 1 else ''}")
    if cell.interval is not None:
        lines.append(f"95 % interval of the mean over seeds: {cell.interval[0]:.1f} to {cell.interval[1]:.1f}")
    if cell.difference is not None:
        one = cell.difference
        lines.append(f"{one.delta:+.2f} [{one.low:+.2f}, {one.high:+.2f}] vs {one.baseline}, p {one.p:.4f}")
        if one.gap_closed is not None:
            lines.append(f"closes {one.gap_closed:.0f} % of the gap to the teacher")
    return "\n".join(lines)


def short_label(text: str) -> str:
    """A label that leaves room for the chart."""
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
