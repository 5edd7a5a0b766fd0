"""The summary as lines for a terminal, never more nor longer than it can show.

Counts, cost and time left come first, then a line for each task, then the last failures, then what runs.
"""

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.text import Text

from pipeline.monitor.format import (
    NO_TASK,
    counts_text,
    duration_text,
    hours_text,
    other_counts,
    rate_text,
    stopping_text,
    time_left_text,
)
from pipeline.monitor.summary import Counts, FailedNode, NodeGroup, RunningNode, Summary

BAR_WIDTH = 20
"""Width of a task's progress bar, in columns."""
RESERVED_LINES = 5
"""Lines of the terminal that the summary leaves free for messages above it."""
MIN_LINES = 6
"""Lines that the summary takes however low the terminal is."""
STARTING = "starting"
"""Shown for a node that has reported nothing yet: its workers start, load libraries, and then a model."""
MAX_FAILURES = 3
"""Failures that are shown; earlier ones were printed when they happened, and are on the HTML page."""


def terminal_view(summary: Summary, width: int, height: int, page: str = "") -> Lines:
    """The lines for a terminal of ``width`` columns and ``height`` lines. ``page`` is the path or URL of the HTML page,
    '' where there is none."""
    if summary.stopping:
        lines = [_head(summary), Text(stopping_text(summary), style="yellow")]
        for line in lines:
            line.truncate(max(1, width - 1), overflow="ellipsis")
        return Lines(*lines)
    head = [_head(summary), Text(f"{hours_text(summary)} used; {time_left_text(summary.left)}")]
    room = max(MIN_LINES, height - RESERVED_LINES) - len(head)
    failures = [_failed_node(failure) for failure in summary.failures[-MAX_FAILURES:]]
    running = [_running(one) for one in summary.running]
    tasks = _tasks(summary.tasks) if len(summary.tasks) > 1 else []
    stages = [_stages(summary.stages)] if len(summary.stages) > 1 else []
    foot = [Text(page, style="dim")] if page and len(page) <= width else []
    # In a low terminal, these go first: the page's path, then stages, then tasks that are done or not begun.
    least = min(len(running), 2) + len(failures)
    if len(stages) + len(foot) + len(tasks) + least > room:
        foot = []
    if len(stages) + len(tasks) + least > room:
        stages = []
    if len(tasks) + least > room:
        in_progress = [group for group in summary.tasks if _in_progress(group.counts)]
        tasks = _at_most(_tasks(in_progress), max(1, room - least), "tasks")
    taken = len(stages) + len(foot) + len(tasks) + len(failures)
    lines = [*head, *stages, *tasks, *failures, *_at_most(running, max(1, room - taken), "running"), *foot]
    for line in lines:
        line.truncate(max(1, width - 1), overflow="ellipsis")
    return Lines(*lines)


def _at_most(lines: Sequence[Text], room: int, of_what: str) -> list[Text]:
    """At most ``room`` lines; the last says how many more there are."""
    if len(lines) <= room:
        return list(lines)
    return [*lines[: room - 1], Text(f"and {len(lines) - room + 1} more {of_what}", style="dim")]


def _head(summary: Summary) -> Text:
    reused = f", {summary.reused} reused" if summary.reused else ""
    name = f"{summary.info.recipe}  " if summary.info.recipe else ""
    return Text(f"{name}{duration_text(summary.elapsed)}  {counts_text(summary.counts)}{reused}", style="bold")


def _stages(stages: Sequence[NodeGroup]) -> Text:
    return Text("  ".join(f"{group.name} {group.counts.done}/{group.counts.total}" for group in stages), style="dim")


def _in_progress(counts: Counts) -> bool:
    """Whether a task has begun and is not done."""
    return counts.done < counts.total and counts.waiting < counts.total


def _tasks(tasks: Sequence[NodeGroup]) -> list[Text]:
    longest = max((len(group.name or NO_TASK) for group in tasks), default=0)
    digits = max((len(str(group.counts.total)) for group in tasks), default=1)
    return [_task(group, min(longest, 20), digits) for group in tasks]


def _task(group: NodeGroup, longest: int, digits: int) -> Text:
    counts = group.counts
    line = Text(f"{(group.name or NO_TASK)[:longest]:{longest}} ")
    for part, style in (
        (counts.done, "green"),
        (counts.running, "cyan"),
        (counts.failed + counts.blocked, "red"),
        (counts.held, "yellow"),
    ):
        reached = len(line) - longest - 1
        line.append("█" * min(BAR_WIDTH - reached, cells(part, counts.total)), style=style)
    line.append("·" * (BAR_WIDTH - (len(line) - longest - 1)), style="dim")
    line.append(f" {counts.done:>{digits}}/{counts.total:<{digits}}  {', '.join(other_counts(counts))}")
    return line


def cells(part: int, total: int) -> int:
    """Columns of a bar for ``part`` of ``total``: 1 at least, unless ``part`` is 0."""
    return max(1, BAR_WIDTH * part // total) if part else 0


def _failed_node(failure: FailedNode) -> Text:
    blocks = f" (+{failure.blocks} blocked)" if failure.blocks else ""
    return Text(f"FAIL {failure.name}{blocks}  {failure.why}", style="red")


def _running(one: RunningNode) -> Text:
    parts = [one.name]
    if one.share is None:
        parts.append(duration_text(one.seconds))
    else:
        parts += [f"{100 * one.share:.0f}%", f"{one.amount:,.0f}/{one.total:,.0f} {one.unit}"]
    if one.paused:
        return Text("  ".join([*parts, one.note]), style="dim")
    if one.rate:
        parts.append(f"{rate_text(one.rate)} {one.unit}/s")
    if one.left is not None:
        parts.append(f"{duration_text(one.left)} left")
    if not one.amount and not one.note:
        parts.append(STARTING if one.share is None else f"{STARTING}, {duration_text(one.seconds)}")
    return Text("  ".join([*parts, one.note] if one.note else parts))
