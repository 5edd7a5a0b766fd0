"""The comparison of methods with a baseline as text: cells of the table, and lines below it."""

from collections.abc import Sequence

from pipeline.report.means import MEAN, grouped
from pipeline.report.rows import ReportRow

SIGNIFICANT = 0.05
"""The p-value, adjusted for the number of methods, below which a difference counts as found."""

ABOUT_DIFFERENCES = """Differences are in points, with a 95 % interval over rows and seeds. A method in bold, with an
asterisk, scores higher than the baseline: its interval excludes 0, and p is below 0.05 after Holm's correction for the
number of methods. "Gap closed" is the share of the way from the baseline's score to the teacher's."""


def is_found(row: ReportRow) -> bool:
    """Whether a row shows a difference from the baseline: its interval excludes 0, and its adjusted p-value is low."""
    if row.low is None or row.high is None or row.p is None:
        return False
    return row.p < SIGNIFICANT and not row.low <= 0 <= row.high


def is_winner(row: ReportRow) -> bool:
    """Whether a method is found to score higher than the baseline."""
    return is_found(row) and row.delta is not None and row.delta > 0


def difference_text(row: ReportRow) -> str:
    """``+1.8 [+0.4, +3.1] *``: the difference, its interval, and a mark where it is found; '' for one that is not
    compared."""
    if row.delta is None:
        return ""
    mark = "" if not is_found(row) else " *" if is_winner(row) else " (lower)"
    return f"{row.delta:+.1f} [{row.low:+.1f}, {row.high:+.1f}]{mark}"


def gap_text(row: ReportRow) -> str:
    """``38%``; '' where it is unknown."""
    return "" if row.gap_closed is None else f"{round(row.gap_closed)}%"


def lines_on_differences(rows: Sequence[ReportRow]) -> list[str]:
    """For each score that was compared, a line: over how many seeds, and which methods were not found to differ from
    the baseline, by how much at most. Before them a line on the mark, if any row has it. [] without a baseline."""
    compared = [row for row in rows if row.baseline is not None]
    found = [_line_on(group) for group in grouped(compared, lambda row: (row.task, row.student, row.split, row.metric))]
    if any(is_winner(row) for row in compared):
        found.insert(
            0,
            f"* scores higher than {compared[0].baseline}: the 95 % interval of the difference excludes 0, "
            "and p < 0.05 after Holm's correction for the number of methods",
        )
    return found


def _line_on(rows: Sequence[ReportRow]) -> str:
    first = rows[0]
    tasks = max((row.tasks_compared or 0 for row in rows), default=0)
    task = f"mean of {tasks} tasks" if first.task == MEAN and tasks else first.task
    methods = [group[0] for group in grouped(rows, lambda row: row.method)]
    known = [row for row in methods if row.delta is not None]
    seeds = sorted({row.seeds_compared for row in known if row.seeds_compared})
    texts = []
    if seeds:
        texts.append(f"compared over {' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''}")
    if seeds == [1]:
        texts.append("so differences between trainings are not in the interval")
    not_found = [row for row in known if not is_found(row)]
    if not_found:
        top, *others = not_found
        bounds = [f"{top.method} (|difference| < {top.within:.1f} points at 95 %)"]
        bounds += [f"{row.method} (< {row.within:.1f})" for row in others]
        texts.append(f"no difference from {first.baseline} found: {', '.join(bounds)}")
    missing = [row.method for row in methods if row.delta is None]
    if missing:
        texts.append(f"not compared, for want of predictions: {', '.join(missing)}")
    return f"{task}, {first.student}, {first.split} {first.metric}: {'; '.join(texts)}"
