"""The limit on the size of teacher-output stores: checked when a plan is made, and again once rows are known. Also the
warnings about a disk that may be too small, and about a run that may take longer than its limit."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from pipeline.artifacts.record import Record
from pipeline.errors import RequestError
from pipeline.graph.artifact_sizes import TIERS, in_tier, store_bytes
from pipeline.graph.nodes import Node
from pipeline.plan.estimate import approximate_time
from pipeline.plan.planner import Step
from pipeline.plan.quantities import sizes_of
from pipeline.recipe import ResourceBlock
from pipeline.storage import Storage
from stages.cache_folder import nearest_existing
from stages.specs.teacher import TeachSpec


def with_quantities(steps: Sequence[Step], records: Mapping[str, Record]) -> tuple[Step, ...]:
    """The steps with their rows and bytes as known from ``records``, by key."""
    sizes = sizes_of((step.node for step in steps), records)
    return tuple(replace(step, rows=sizes[step.node.key].rows, bytes=sizes[step.node.key].bytes) for step in steps)


def check_store_limit(steps: Sequence[Step], limit: int | None) -> None:
    """Raises RequestError if the stores of ``steps`` exceed ``limit`` bytes; the message names settings that fit."""
    stores = [step for step in steps if step.node.spec.stage == TeachSpec.stage and step.action != "skip"]
    known = sum(step.bytes.value or 0 for step in stores)
    if limit is None or known <= limit:
        return
    worst = max(stores, key=lambda step: step.bytes.value or 0)
    raise RequestError(
        f"limits.store_bytes: {limit:,}, but the teacher outputs come to {known:,} bytes ({worst.node.name}: "
        f"{worst.bytes.value:,}); {_what_fits(stores, limit)}, keep fewer rows (data.train_rows), or raise the limit"
    )


def check_memory_limit(
    steps: Sequence[Step], limit: int | None, resources: Mapping[str, ResourceBlock] = MappingProxyType({})
) -> None:
    """Raises RequestError if a worker of a training that is to be built may hold models and optimizers of more than
    ``limit`` bytes; the message names the largest training, and its models. Where ``resources`` lets trainings of a
    role share a worker, it holds those of the largest of them together."""
    by_role: dict[str, list[Node]] = {}
    for step in steps:
        if step.action == "build" and step.node.held is not None:
            by_role.setdefault(step.node.role, []).append(step.node)
    workers = [
        sorted(nodes, key=_held_bytes, reverse=True)[: resources[role].trainings_per_worker if role in resources else 1]
        for role, nodes in by_role.items()
    ]
    largest = max(workers, key=lambda nodes: sum(map(_held_bytes, nodes)), default=[])
    held_bytes = sum(map(_held_bytes, largest))
    if limit is None or held_bytes <= limit:
        return
    node = largest[0]
    worker, remedy = node.name, "choose smaller models"
    if len(largest) > 1:
        worker = f"{len(largest)} trainings, the largest of which is {node.name},"
        remedy = f"set a smaller resources.{node.role}.trainings_per_worker, {remedy}"
    models = node.held.describe() if node.held else ""
    raise RequestError(
        f"limits.memory: {limit:,}, but a worker of {worker} holds {held_bytes:,} bytes of models and optimizers "
        f"({models}); {remedy}, or raise the limit"
    )


def _held_bytes(node: Node) -> int:
    return node.held.bytes if node.held else 0


def disk_warning(steps: Sequence[Step], storage: Storage) -> str:
    """A line if the artifacts that ``steps`` build may need more bytes than the disk of the storage has; '' if they do
    not, or if the storage is a bucket."""
    if not storage.shared:
        return ""
    existing = nearest_existing(storage.local)
    needed = sum(step.bytes.value or 0 for step in steps if step.action == "build")
    disk = shutil.disk_usage(existing)
    if needed <= disk.free or not disk.total:  # a file system of the kernel's own has no size
        return ""
    return f"storage: {storage} has {disk.free:,} bytes left on its disk, but the plan may need {needed:,}; free some"


def time_warning(seconds: float | None, hours: float | None) -> str:
    """A line if ``limits.hours`` stops a run that takes ``seconds`` before its end; '' if it does not, or if either is
    None, for unknown and for no limit."""
    if hours is None or seconds is None or seconds <= 3600 * hours:
        return ""
    return (
        f"limits.hours: {hours:g}, but the run takes {approximate_time(seconds)} on this machine; it is stopped "
        "then, and the next run goes on from there: raise the limit to have it in one run"
    )


def _what_fits(stores: Sequence[Step], limit: int) -> str:
    """The settings with which the stores fit; if none does, the setting with which they are smallest."""
    sizes = {tier: sum(_size_in(step, tier) for step in stores) for tier in TIERS}
    fitting = [f"{tier} (would come to {size:,} bytes)" for tier, size in sizes.items() if size <= limit]
    if fitting:
        return f"use {' or '.join(fitting)}"
    smallest = min(sizes, key=lambda tier: sizes[tier])
    return f"the smallest that they can be is {sizes[smallest]:,} bytes, with {smallest}"


def _size_in(step: Step, tier: str) -> int:
    """Bytes of a store with a setting of ``TIERS``; the planned bytes if it has that setting or unknown rows."""
    spec, planned = step.node.spec, step.bytes.value or 0
    if not isinstance(spec, TeachSpec) or step.node.extent is None or not planned or step.rows.value is None:
        return planned
    changed, extent = in_tier(spec, step.node.extent, tier)
    return planned if changed == spec else store_bytes(changed, extent, step.rows.value)
