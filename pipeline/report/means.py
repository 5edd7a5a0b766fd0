"""Rows of a report averaged over the tasks of a recipe."""

import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from pipeline.report.rows import ReportRow

MEAN = "mean"
"""The task of a row that stands for all tasks and seeds."""
DEV, TEST = "dev", "test"
MEAN_SPLITS = (DEV, TEST)
"""The splits of means over tasks: all dev splits of a task, and all of its test splits that have labels."""
HEADLINE = "headline"
"""The metric of means over tasks: of each task its own headline metric."""
AVERAGED = ("score", "last_epoch_score", "teacher_score", "seconds", "latency_ms")
"""The fields of a row of which means are taken."""


NOT_MEASURED: dict[str, Any] = {
    "bytes": None,
    "p50_ms": None,
    "p95_ms": None,
    "rows_per_second": None,
    "speedup": None,
    "measured_runtime": None,
    "measured_batch": None,
    "measured_threads": None,
    "measured_on": None,
    "measured_at": None,
    "measurements": (),
}
"""The fields on measured latencies of a row for several models."""


def grouped(rows: Sequence[ReportRow], key: Callable[[ReportRow], Hashable]) -> list[list[ReportRow]]:
    """The rows by their key, in the order in which keys first occur."""
    groups: dict[Hashable, list[ReportRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def over_tasks(rows: Sequence[ReportRow]) -> list[list[ReportRow]]:
    """For each method and student that all tasks of several have, a row for each seed: the mean over tasks of the
    headline metric on dev, where a task with several dev splits counts once, with their mean. Where all tasks have
    labelled test splits, further lists of rows have the mean of these. Seeds that are not done in every task are left
    out. A teacher, which is the same for all seeds, has one row."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) < 2:
        return []
    found = []
    for split in MEAN_SPLITS:
        headlines = [row for row in rows if row.primary and row.dev == (split == DEV)]
        for group in grouped(headlines, lambda row: (row.method, row.student)):
            seeds = [seed for seed in dict.fromkeys(row.seed for row in group) if _complete(group, tasks, seed)]
            if seeds:
                found.append([_mean_row([row for row in group if row.seed == seed], tasks, split) for seed in seeds])
    return found


def over_tasks_and_seeds(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """The rows of ``over_tasks``, of each method, student and split one: the mean over its seeds."""
    found = []
    for group in over_tasks(rows):
        means: dict[str, Any] = {name: _mean([getattr(row, name) for row in group]) for name in AVERAGED}
        found.append(replace(group[0], task=MEAN, seed=None, key="", **means))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _complete(rows: Sequence[ReportRow], tasks: Sequence[str], seed: int | None) -> bool:
    here = [row for row in rows if row.seed == seed]
    return {row.task for row in here} == set(tasks) and all(row.status == "done" for row in here)


def _mean_row(rows: Sequence[ReportRow], tasks: Sequence[str], split: str) -> ReportRow:
    """The mean of one seed's rows over tasks."""

    def over_splits_and_tasks(field: str) -> float | None:
        each = [[getattr(row, field) for row in rows if row.task == task] for task in tasks]
        known = [statistics.fmean(values) for values in each if None not in values]
        return statistics.fmean(known) if len(known) == len(tasks) else None

    means: dict[str, Any] = {name: over_splits_and_tasks(name) for name in AVERAGED}
    return replace(
        rows[0],
        task=f"mean of {len(tasks)} tasks",
        split=split,
        metric=HEADLINE,
        artifact=None,
        best_epoch=None,
        candidates=None,
        quarantined=None,
        train_rows=None,
        trained_rows=None,
        held_out_rows=None,
        cut_off_rows=None,
        **NOT_MEASURED,
        **means,
    )
