"""When the stages of a run ran, in lanes, and the chain of stages that its end waited for."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitor.run_state import NodeRun, RunState

SHORTEST = 1 / 2000
"""Stages that took a smaller share of the time shown are left out: they would be narrower than a dot."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A stage that ran, in seconds since the run started. ``critical``: it is on the critical path."""

    node: NodeRun
    begin: float
    end: float
    critical: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The stages that ran, in as many lanes as ran at once, over ``seconds`` seconds. ``path`` is the critical path:
    the stages whose end the next one waited for, with the seconds in which it waited for room after that."""

    seconds: float
    lanes: Sequence[Sequence[Bar]]
    path: Sequence[tuple[NodeRun, float]]
    left_out: int = 0


def timeline(run_state: RunState, now: float) -> Timeline | None:
    """The timeline of a run until ``now`` (seconds since 1970); None before any stage has begun. Of a stage that was
    tried several times, the last attempt is shown."""
    end = run_state.ended or now
    ran = [node for node in run_state.node_runs if node.attempt and node.seconds(end) > 0]
    if not ran:
        return None
    start = min(run_state.info.started or end, *(node.began for node in ran))
    seconds = max(end - start, 1e-9)
    path = critical_path(ran, end)
    critical = {node.key for node, _ in path}
    shown = [node for node in ran if node.seconds(end) >= seconds * SHORTEST or node.key in critical]
    lanes: list[list[Bar]] = []
    for node in sorted(shown, key=lambda node: (node.began, node.urgency)):
        bar = Bar(node, node.began - start, node.began + node.seconds(end) - start, node.key in critical)
        lane = next((lane for lane in lanes if lane[-1].end <= bar.begin), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(bar)
    return Timeline(seconds, lanes, path, len(ran) - len(shown))


def critical_path(ran: Sequence[NodeRun], now: float) -> list[tuple[NodeRun, float]]:
    """The stages that the last one to end waited for, the first one first: before each stands, of the stages that it
    needs, the one that ended last. With each are the seconds from that end to its own beginning, in which its inputs
    were there and others had the room."""
    by_key = {node.key: node for node in ran}
    found = []
    node = max(ran, key=lambda node: node.began + node.seconds(now))
    while True:
        needed = [by_key[key] for key in node.needs if key in by_key and by_key[key].ended]
        before = max(needed, key=lambda other: other.ended, default=None)
        found.append((node, max(0.0, node.began - before.ended) if before is not None else 0.0))
        if before is None:
            return found[::-1]
        node = before
