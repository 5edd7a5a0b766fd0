"""How long a run still takes: its nodes are laid side by side as the runner would start them, as far as they fit."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.monitor.run_state import Course, Stint
from pipeline.recipe import STAGES


@dataclass(frozen=True, slots=True)
class Left:
    """``seconds`` is None where nothing is known. ``unknown`` counts nodes of which nothing tells how long they take:
    with any, ``seconds`` is the least it can be."""

    seconds: float | None
    unknown: int


def time_left(course: Course, now: float) -> Left:
    """Seconds until the last node ends: a running one at its rate, or its expected time less what it has had; one that
    has not begun in its expected time, after what it needs and when it fits. What another run builds takes no room."""
    open_stints = [stint for stint in course.stints if stint.state in ("waiting", "held", "running")]
    seconds = {stint.key: remaining(stint, course, now) for stint in open_stints}
    unknown = sum(value is None for value in seconds.values())
    if open_stints and unknown == len(open_stints):
        return Left(None, unknown)
    return Left(laid_out(open_stints, {key: value or 0.0 for key, value in seconds.items()}, course), unknown)


def remaining(stint: Stint, course: Course, now: float) -> float | None:
    """Seconds that a node still runs; None where nothing tells, or it has had more than was expected."""
    expected = course.expected.get(stint.key)
    if stint.state == "waiting":
        return expected
    at_its_rate = stint.left(now)
    if at_its_rate is not None:
        return at_its_rate
    if expected is None:
        return None
    over = now - stint.began - expected
    return -over if over < 0 else None


def laid_out(stints: Sequence[Stint], seconds: dict[str, float], course: Course) -> float:
    """When the last of ``stints`` ends, from now, if each takes its ``seconds``."""
    missing = {stint.key: sum(need in seconds for need in stint.needs) for stint in stints}
    feeds: dict[str, list[Stint]] = {}
    for stint in stints:
        for need in stint.needs:
            feeds.setdefault(need, []).append(stint)
    floor = _Floor(course)
    for stint in stints:
        if stint.state != "waiting":
            floor.start(stint, seconds[stint.key], 0.0)
        elif not missing[stint.key]:
            floor.wait(stint)
    clock = 0.0
    floor.fill(seconds, clock)
    while floor.ends:
        clock, ended = floor.next()
        for stint in feeds.get(ended.key, ()):
            missing[stint.key] -= 1
            if not missing[stint.key] and stint.state == "waiting":
                floor.wait(stint)
        floor.fill(seconds, clock)
    return clock


class _Floor:
    """What runs, and what waits for room: by shape, as nodes of one shape fit or do not fit together."""

    def __init__(self, course: Course) -> None:
        self.room = course.room
        self.cpus = self.gpus = 0.0
        self.running = 0
        self.ends: list[tuple[float, int, Stint]] = []
        self.waiting: dict[tuple[int, float, float], deque[Stint]] = {}
        self._started = 0

    def wait(self, stint: Stint) -> None:
        role = STAGES.index(stint.role) if stint.role in STAGES else len(STAGES)
        self.waiting.setdefault((role, stint.cpus, stint.gpus), deque()).append(stint)

    def start(self, stint: Stint, seconds: float, clock: float) -> None:
        heapq.heappush(self.ends, (clock + seconds, self._started, stint))
        self._started += 1
        if stint.state != "held":
            self.running += 1
            self.cpus += stint.cpus
            self.gpus += stint.gpus

    def next(self) -> tuple[float, Stint]:
        clock, _, stint = heapq.heappop(self.ends)
        if stint.state != "held":
            self.running -= 1
            self.cpus -= stint.cpus
            self.gpus -= stint.gpus
        return clock, stint

    def fill(self, seconds: dict[str, float], clock: float) -> None:
        """Start all that fits, stage by stage."""
        for shape in sorted(self.waiting):
            queue = self.waiting[shape]
            while queue and self._fits(queue[0]):
                stint = queue.popleft()
                self.start(stint, seconds[stint.key], clock)

    def _fits(self, stint: Stint) -> bool:
        if not self.running:
            return True
        return (
            self.room.concurrent
            and self.cpus + stint.cpus <= self.room.cpus
            and self.gpus + stint.gpus <= self.room.gpus
        )
