"""The timeline of a run as a picture for a page."""

from collections.abc import Callable

from pipeline.monitor.format import duration_text
from pipeline.monitor.run_state import NodeRun, RunState
from pipeline.monitor.timeline import Bar, Timeline, timeline
from pipeline.report.page.time_spent import TIME_KINDS, TimeBar, TimePicture

Link = Callable[[NodeRun], str]
"""Node -> the path of its log, relative to the page; '' for a node without one."""


def time_picture(run_state: RunState, now: float, link: Link = lambda _: "", title: str = "") -> TimePicture | None:
    """The picture of a run until ``now`` (seconds since 1970); None before any stage has begun."""
    found = timeline(run_state, now)
    if found is None:
        return None
    lanes = tuple(tuple(_bar(bar, found.seconds, link) for bar in lane) for lane in found.lanes)
    return TimePicture(title, duration_text(found.seconds), lanes, _about(found))


def _about(found: Timeline) -> str:
    steps = [
        f"{node.name} {duration_text(node.seconds(node.ended))}"
        + (f" (after {duration_text(waited)} without room)" if waited >= 0.01 * found.seconds else "")
        for node, waited in found.path
        if node.ended
    ]
    about = f"The end waited for {', then '.join(steps)}." if steps else ""
    if found.left_out:
        about += f" {found.left_out} stages were too short to be shown."
    return about.strip()


def _bar(bar: Bar, seconds: float, link: Link) -> TimeBar:
    node = bar.node
    about = f"{node.name}: {duration_text(bar.end - bar.begin)}, from {duration_text(bar.begin)} on"
    about += f", {node.cpus:g} CPUs" if node.cpus else ""
    about += f", {node.gpus:g} GPUs" if node.gpus else ""
    left, width = 100 * bar.begin / seconds, 100 * (bar.end - bar.begin) / seconds
    return TimeBar(node.name, TIME_KINDS.get(node.role, "other"), bar.critical, left, width, about, link(node))
