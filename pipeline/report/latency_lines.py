"""Lines of a report on what ``stillhouse latency`` has measured."""

import statistics
from collections.abc import Sequence

from pipeline.artifacts.latencies import MeasuredLatency
from pipeline.report.rows import ReportRow

MOST_EXPORTS = 12
"""Exported models that have a line."""


def latency_lines(rows: Sequence[ReportRow]) -> list[str]:
    """Lines on what ``stillhouse latency`` measured: under which conditions, and the exports of the models."""
    measured = [row for row in rows if row.p50_ms is not None]
    if not measured:
        return []
    sizes = sorted({row.measured_batch for row in measured if row.measured_batch is not None})
    threads = sorted({row.measured_threads for row in measured if row.measured_threads is not None})
    machines = dict.fromkeys(row.measured_on for row in measured if row.measured_on)
    dates = sorted({row.measured_at[:10] for row in measured if row.measured_at})
    batch = f"a batch of {_either(sizes)} row{'s' if sizes != [1] else ''}"
    on = f"{_either(threads)} thread{'s' if threads != [1] else ''} of {' or '.join(machines)}"
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    found = [f"p50 ms: {batch} on {on}, {when}; speed-up: over the teacher, in turns (stillhouse latency)"]
    exports: dict[tuple[str, str, str, str], list[MeasuredLatency]] = {}
    for row in {(row.task, row.method, row.student, row.seed): row for row in measured}.values():
        for one in row.measurements:
            if one.runtime != row.measured_runtime and _conditions(one) == (row.measured_batch, row.measured_threads):
                exports.setdefault((row.task, row.method, row.student, one.runtime), []).append(one)
    for (task, method, student, runtime), group in list(exports.items())[:MOST_EXPORTS]:
        size = mean_text([one.bytes / 1e6 for one in group], ".1f")
        p50 = mean_text([one.p50_ms for one in group], ".2f")
        faster = mean_text([one.speedup for one in group], ".2f", " x the teacher's speed")
        parts = [f"{size} MB", f"{p50} ms", *([faster] if faster else [])]
        found.append(f"{method} {student} {task} as {runtime}: {', '.join(parts)}")
    return found


def _conditions(one: MeasuredLatency) -> tuple[int, int]:
    return one.batch, one.threads


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def mean_text(values: Sequence[float | None], form: str, unit: str = "") -> str:
    """The mean of the values that are known, in this format; '' where there are none."""
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):{form}}{unit}" if known else ""
