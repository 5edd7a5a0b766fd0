"""The comparison of methods with a baseline as text: cells of the table, and lines below it."""

from collections.abc import Collection, Sequence

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
    """For each score that was compared, a line: over how many seeds, which methods were not found to differ from the
    baseline, by how much at most, and which were not compared, and why. Before them a line on the mark, if any row has
    it. [] without a baseline."""
    compared = [row for row in rows if row.baseline is not None]
    found = [
        _line_on(group, rows) for group in grouped(compared, lambda row: (row.task, row.student, row.split, row.metric))
    ]
    if any(is_winner(row) for row in compared):
        found.insert(
            0,
            f"* scores higher than {compared[0].baseline}: the 95 % interval of the difference excludes 0, "
            "and p < 0.05 after Holm's correction for the number of methods",
        )
    return found


def _line_on(compared: Sequence[ReportRow], rows: Sequence[ReportRow]) -> str:
    """The line on the rows of one task, student, split and metric, among all ``rows`` of the report."""
    first, over_tasks = compared[0], compared[0].task == MEAN
    tasks = {row.task for row in rows if row.task != MEAN}
    task = f"mean of {len(tasks)} tasks" if over_tasks else first.task
    methods = [group[0] for group in grouped(compared, lambda row: row.method)]
    known = [row for row in methods if row.delta is not None]
    seeds = sorted({row.seeds_compared for row in known if row.seeds_compared})
    texts = []
    if seeds:
        texts.append(f"compared over {' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''}")
    if seeds == [1]:
        texts.append("so differences between trainings are not in the interval")
    if 2 in seeds and not over_tasks:
        texts.append("an interval over 2 seeds may be too narrow: it contains the truth in 86 to 97 % of cases")
    not_found = [row for row in known if not is_found(row)]
    if not_found:
        top, *others = not_found
        bounds = [f"{top.method} (|difference| < {top.within:.1f} points at 95 %)"]
        bounds += [f"{row.method} (< {row.within:.1f})" for row in others]
        texts.append(f"no difference from {first.baseline} found: {', '.join(bounds)}")
    missing = [row.method for row in methods if row.delta is None]
    if over_tasks:
        of_student = [row.method for row in rows if row.baseline is not None and row.student == first.student]
        missing += [method for method in dict.fromkeys(of_student) if method not in [row.method for row in methods]]
    if missing:
        texts += _why_not_compared(missing, str(first.baseline), tasks if over_tasks else {first.task}, rows)
    return f"{task}, {first.student}, {first.split} {first.metric}: {'; '.join(texts)}"


def _why_not_compared(
    methods: Sequence[str], baseline: str, tasks: Collection[str], rows: Sequence[ReportRow]
) -> list[str]:
    """Why these methods are not compared in, or over, ``tasks``: the recipe gives a task no such method or no baseline,
    or predictions are missing."""
    without = {method: _tasks_without(method, tasks, rows) for method in (baseline, *methods)}
    absent = [baseline] if without[baseline] else [method for method in methods if without[method]]
    texts = [
        f"{' and '.join(without[method])} {'has' if len(without[method]) == 1 else 'have'} no method {method}"
        for method in absent
    ]
    unknown = [] if without[baseline] else [method for method in methods if not without[method]]
    return texts + ([f"not compared, for want of predictions: {', '.join(unknown)}"] if unknown else [])


def _tasks_without(method: str, tasks: Collection[str], rows: Sequence[ReportRow]) -> list[str]:
    """Those of ``tasks`` in which the recipe has no models of the method, in the order of the rows."""
    having = {row.task for row in rows if row.method == method}
    return [task for task in dict.fromkeys(row.task for row in rows) if task in tasks and task not in having]
