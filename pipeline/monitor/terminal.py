"""The summary in a terminal: as many lines as it has room for, none of which it would have to cut.

Counts, costs and time left stand first, then a line for each task, then what failed and what runs.
"""

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.text import Text

from pipeline.monitor.format import SHARED, clock_text, counts_text, hours_text, left_text, troubles
from pipeline.monitor.summary import Counts, Fault, NodeGroup, Running, Summary

BAR = 20
"""Columns of a task's bar."""
SPARE = 5
"""Lines of a terminal that stay for what is told in passing."""
LEAST = 6
"""Lines that are taken however low the terminal is."""
FAULTS = 3
"""Failures that are shown before what runs; the others were told in passing, and are on the page."""


def terminal_view(summary: Summary, width: int, height: int, page: str = "") -> Lines:
    """The lines for a terminal of this size. ``page`` is where the summary lies as a page, '' for nowhere."""
    head = [_head(summary), Text(f"{hours_text(summary)} used; {left_text(summary.left)}")]
    room = max(LEAST, height - SPARE) - len(head)
    faults = [_fault(fault) for fault in summary.faults[-FAULTS:]]
    running = [_running(one) for one in summary.running]
    tasks = _tasks(summary.tasks) if len(summary.tasks) > 1 else []
    stages = [_stages(summary.stages)] if len(summary.stages) > 1 else []
    foot = [Text(page, style="dim")] if page and len(page) <= width else []
    # What must go first when it is narrow: the page's place, stages, tasks that are done or not begun.
    least = min(len(running), 2) + len(faults)
    if len(stages) + len(foot) + len(tasks) + least > room:
        foot = []
    if len(stages) + len(tasks) + least > room:
        stages = []
    if len(tasks) + least > room:
        tasks = _fold(_tasks([group for group in summary.tasks if _moves(group.counts)]), max(1, room - least), "tasks")
    taken = len(stages) + len(foot) + len(tasks) + len(faults)
    lines = [*head, *stages, *tasks, *faults, *_fold(running, max(1, room - taken), "running"), *foot]
    for line in lines:
        line.truncate(max(1, width - 1), overflow="ellipsis")
    return Lines(*lines)


def _fold(lines: Sequence[Text], room: int, of_what: str) -> list[Text]:
    """At most ``room`` lines; the last says how many more there are."""
    if len(lines) <= room:
        return list(lines)
    return [*lines[: room - 1], Text(f"and {len(lines) - room + 1} more {of_what}", style="dim")]


def _head(summary: Summary) -> Text:
    there = f", {summary.reused} were there" if summary.reused else ""
    name = f"{summary.about.recipe}  " if summary.about.recipe else ""
    return Text(f"{name}{clock_text(summary.elapsed)}  {counts_text(summary.counts)}{there}", style="bold")


def _stages(stages: Sequence[NodeGroup]) -> Text:
    return Text("  ".join(f"{group.name} {group.counts.done}/{group.counts.total}" for group in stages), style="dim")


def _moves(counts: Counts) -> bool:
    """Whether a task is neither done nor not begun."""
    return counts.done < counts.total and counts.waiting < counts.total


def _tasks(tasks: Sequence[NodeGroup]) -> list[Text]:
    longest = max((len(group.name or SHARED) for group in tasks), default=0)
    digits = max((len(str(group.counts.total)) for group in tasks), default=1)
    return [_task(group, min(longest, 20), digits) for group in tasks]


def _task(group: NodeGroup, longest: int, digits: int) -> Text:
    counts = group.counts
    line = Text(f"{(group.name or SHARED)[:longest]:{longest}} ")
    for part, style in (
        (counts.done, "green"),
        (counts.running, "cyan"),
        (counts.failed + counts.blocked, "red"),
        (counts.held, "yellow"),
    ):
        reached = len(line) - longest - 1
        line.append("█" * min(BAR - reached, cells(part, counts.total)), style=style)
    line.append("·" * (BAR - (len(line) - longest - 1)), style="dim")
    line.append(f" {counts.done:>{digits}}/{counts.total:<{digits}}  {', '.join(troubles(counts))}")
    return line


def cells(part: int, total: int) -> int:
    """Columns of a bar for ``part`` of ``total``: one at least for whatever there is."""
    return max(1, BAR * part // total) if part else 0


def _fault(fault: Fault) -> Text:
    blocks = f" (+{fault.blocks} blocked)" if fault.blocks else ""
    return Text(f"FAIL {fault.name}{blocks}  {fault.why}", style="red")


def _running(one: Running) -> Text:
    parts = [one.name]
    if one.share is None:
        parts.append(clock_text(one.seconds))
    else:
        parts += [f"{100 * one.share:.0f}%", f"{one.amount:,.0f}/{one.total:,.0f} {one.unit}"]
    if one.amount:
        parts.append(f"{one.rate:,.0f} {one.unit}/s")
    if one.left is not None:
        parts.append(f"{clock_text(one.left)} left")
    return Text("  ".join([*parts, one.note] if one.note else parts))
