"""Ratios that are valid on a busy machine: the compared programs run in turns, and the result is the median of the
ratios of each turn, with an interval that assumes no distribution.
"""

import gc
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the wall clock, and processor seconds, which are NaN where other processes did the work."""

    wall: float
    cpu: float = math.nan

    def times(self, factor: float) -> "Cost":
        return Cost(self.wall * factor, self.cpu * factor)


@dataclass(frozen=True, slots=True)
class Summary:
    """A median of ``count`` values, and the interval that holds the true one with probability ``coverage``."""

    median: float
    low: float
    high: float
    count: int
    coverage: float


Turn = Mapping[str, Cost]


def interleaved(measures: Mapping[str, Callable[[], Cost]], count: int) -> list[Turn]:
    """``count`` turns of every measure, after one of each that is not counted. Every other turn runs in reverse order,
    so that a machine that becomes slower or faster affects all measures alike."""
    names = list(measures)
    for name in names:
        measures[name]()
    turns: list[Turn] = []
    for number in range(count):
        order = names if number % 2 == 0 else names[::-1]
        turns.append({name: _after_collection(measures[name]) for name in order})
    return turns


def _after_collection(measure: Callable[[], Cost]) -> Cost:
    gc.collect()  # so that the garbage of the measure before is not part of this one
    return measure()


def timed(action: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), cpu_seconds()
    action()
    return Cost(time.perf_counter() - wall, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """User and system seconds of this process and of the children that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def ratios(turns: Sequence[Turn], over: str, under: str) -> list[float]:
    """``over`` / ``under`` of each turn, by the wall clock."""
    return [turn[over].wall / turn[under].wall for turn in turns]


def cpu_note(turns: Sequence[Turn], over: str, under: str) -> str:
    """The ratio by processor time, which other programs on the machine disturb less, as text."""
    found = summary([turn[over].cpu / turn[under].cpu for turn in turns])
    return f"cpu {found.median:.3f} ({found.low:.3f} .. {found.high:.3f})"


def cpu_median(turns: Sequence[Turn], name: str) -> float:
    return statistics.median(turn[name].cpu for turn in turns)


def walls(turns: Sequence[Turn], name: str) -> list[float]:
    return [turn[name].wall for turn in turns]


def summary(values: Sequence[float]) -> Summary:
    """The narrowest pair of order statistics k and n + 1 - k that covers the median with ``CONFIDENCE``, or
    all of them where there are too few. P(k-th <= median <= (n + 1 - k)-th) = 1 - 2 P(Bin(n, 1/2) < k)."""
    ordered, n = sorted(values), len(values)
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, (n + 1) // 2 + 1)]
    k = max((k for k, missed in enumerate(outside, 1) if 1 - missed >= CONFIDENCE), default=1)
    return Summary(statistics.median(ordered), ordered[k - 1], ordered[n - k], n, 1 - outside[k - 1])


def hardware() -> str:
    """One line: processor, cores, memory, system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = named[0] if named else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def load_warning() -> str:
    """A line where the load average is above the number of cores; '' otherwise."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= cores:
        return ""
    return f"load average {load:.1f} on {cores} cores: other programs run, so intervals widen and seconds mean little"
