"""The summary as an HTML page: one file that loads nothing else, readable on a phone, light or dark.

While the run lasts, the page reloads itself every few seconds. It holds the time at which it was written, so a page
whose run was killed shows ``gone``. The template is ``pipeline/report/page/templates/run.html.j2``; what it shows is
computed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.format import NO_TASK, duration_text, hours_number, other_counts
from pipeline.monitor.run_state import NodeRun, RunState
from pipeline.monitor.status import GONE_AFTER
from pipeline.monitor.summary import Counts, NodeGroup, RunningNode, Summary
from pipeline.monitor.time_picture import Link, time_picture
from pipeline.plan.estimate import approximate_time
from pipeline.report.page.render import RUN_TEMPLATE, render
from pipeline.report.page.score_tables import ABOUT_TABLE, ScoreTable, score_tables
from pipeline.report.page.time_spent import TimePicture
from pipeline.report.rows import ReportRow

REFRESH = 5
"""Seconds between two reloads of the page while the run lasts."""
Shares = tuple[tuple[str, float], ...]
"""The parts of a bar: state of nodes, percentage of all nodes."""


@dataclass(frozen=True, slots=True)
class FigureCard:
    """A figure in large type, and what it is."""

    figure: str
    about: str


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node of a run as text; ``href`` is the path of its log, '' for none."""

    name: str
    href: str
    state: str
    time: str
    message: str


@dataclass(frozen=True, slots=True)
class GroupLine:
    """The nodes of a task, or of a stage, as counts. ``nodes`` are listed for a task alone."""

    name: str
    shares: Shares
    done: int
    total: int
    others: str
    nodes: tuple[NodeLine, ...] = ()


@dataclass(frozen=True, slots=True)
class FailureLine:
    """A node that failed, and the number of nodes that are not run because they need it."""

    task: str
    name: str
    href: str
    why: str
    blocks: int


@dataclass(frozen=True, slots=True)
class RunningLine:
    """A node that runs, as text: the share that is done, the time so far and the time left, '' where unknown."""

    name: str
    share: str
    time: str
    left: str
    note: str


@dataclass(frozen=True, slots=True)
class RunPage:
    """All that the page of a run shows. ``written`` is in seconds since 1970, ``patience`` the seconds after which a
    page that was not written again counts as gone; ``refresh`` is the seconds between two reloads, None where the run
    has ended."""

    title: str
    run: str
    status: str
    origin: str
    dashboard: str
    written: float
    patience: float
    reload_every: int
    refresh: int | None
    cards: tuple[FigureCard, ...]
    shares: Shares
    failures: tuple[FailureLine, ...]
    tables: tuple[ScoreTable, ...]
    about: str
    tasks: tuple[GroupLine, ...]
    running: tuple[RunningLine, ...]
    stages: tuple[GroupLine, ...]
    picture: TimePicture | None


def html_page(summary: Summary, run_state: RunState, link: Link, rows: Sequence[ReportRow] = ()) -> str:
    """The HTML page of a run. ``rows`` are its results, once there are any."""
    return render(RUN_TEMPLATE, page=run_page(summary, run_state, link, rows))


def run_page(summary: Summary, run_state: RunState, link: Link, rows: Sequence[ReportRow] = ()) -> RunPage:
    """What the page of a run shows."""
    info, running = summary.info, summary.status == "running"
    node_runs = {node_run.key: node_run for node_run in run_state.node_runs}
    return RunPage(
        title=info.recipe or info.run,
        run=info.run,
        status=summary.status,
        origin=_origin(summary),
        dashboard=info.dashboard if info.dashboard.startswith(("http://", "https://")) else "",
        written=summary.now,
        patience=GONE_AFTER,
        reload_every=REFRESH,
        refresh=REFRESH if running else None,
        cards=_cards(summary),
        shares=_shares(summary.counts),
        failures=tuple(
            FailureLine(one.task or NO_TASK, one.name, link(node_runs[one.key]), one.why, one.blocks)
            for one in summary.failures
        ),
        tables=score_tables(rows),
        about=ABOUT_TABLE,
        tasks=tuple(_task(group, run_state, summary.now, link) for group in summary.tasks),
        running=tuple(_running(one) for one in summary.running),
        stages=tuple(_group(group) for group in summary.stages),
        picture=time_picture(run_state, summary.now, link),
    )


def _origin(summary: Summary) -> str:
    info = summary.info
    parts = [f"Started {_moment(info.started)}"]
    if info.owner is not None:
        parts.append(f"process {info.owner.pid} on {info.owner.host}")
    if info.storage:
        parts.append(f"storage {info.storage}")
    return f"{', '.join(parts)}. As of {_moment(summary.now)}."


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _cards(summary: Summary) -> tuple[FigureCard, ...]:
    counts, running = summary.counts, summary.status == "running"
    cards = [
        (*_time_left(summary.left), running),
        (f"{counts.done}/{counts.total}", "done", True),
        (str(counts.running), "running", running),
        (str(counts.failed), "failed", True),
        (str(counts.blocked), "blocked", counts.blocked > 0),
        (str(counts.held), "with another run", counts.held > 0),
        (str(summary.reused), "reused", summary.reused > 0),
        (duration_text(summary.elapsed), "since the start", True),
        (hours_number(summary.gpu_hours), "GPU hours", summary.gpu_hours > 0),
        (hours_number(summary.cpu_hours), "CPU hours", True),
    ]
    return tuple(FigureCard(figure, about) for figure, about, shown in cards if shown)


def _time_left(left: TimeLeft) -> tuple[str, str]:
    if left.seconds is None:
        return "unknown", "time left"
    if not left.unknown:
        return approximate_time(left.seconds), "left"
    return f"at least {approximate_time(left.seconds)}", f"left; {left.unknown} stages of unknown length"


def _shares(counts: Counts) -> Shares:
    parts = (("done", counts.done), ("running", counts.running), ("failed", counts.failed + counts.blocked))
    return tuple((name, 100 * part / max(1, counts.total)) for name, part in (*parts, ("held", counts.held)) if part)


def _group(group: NodeGroup, nodes: tuple[NodeLine, ...] = ()) -> GroupLine:
    counts = group.counts
    others = ", ".join(other_counts(counts))
    return GroupLine(group.name or NO_TASK, _shares(counts), counts.done, counts.total, others, nodes)


def _task(group: NodeGroup, run_state: RunState, now: float, link: Link) -> GroupLine:
    nodes = (node_run for node_run in run_state.node_runs if node_run.task == group.name)
    return _group(group, tuple(_node_line(node_run, now, link) for node_run in nodes))


def _node_line(one: NodeRun, now: float, link: Link) -> NodeLine:
    time = duration_text(one.seconds(now)) if one.attempt else ""
    return NodeLine(one.name, link(one), one.state, time, one.why or one.note)


def _running(one: RunningNode) -> RunningLine:
    share = "" if one.share is None else f"{100 * one.share:.0f}%"
    left = "" if one.left is None else duration_text(one.left)
    return RunningLine(one.name, share, duration_text(one.seconds), left, one.note)
