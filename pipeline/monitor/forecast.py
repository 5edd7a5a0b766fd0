"""How long a planned run will take: the time of each step from records or from a probe, and that of the whole run,
simulated with the resources of this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.amount import Amount
from cluster.resources import Capacity, Resources
from pipeline.artifacts.provenance import hardware
from pipeline.graph.nodes import Node
from pipeline.monitor.eta import simulated_ends
from pipeline.monitor.run_state import RunCapacity, RunInfo, RunState, node_runs_of
from pipeline.plan.estimate import approximate_time, estimate
from pipeline.plan.extrapolate import PlannedRun, extrapolated
from pipeline.plan.measurements import Measurements, Topics
from pipeline.plan.planner import Plan
from pipeline.plan.resources import allot
from pipeline.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Forecast:
    """``seconds`` and ``ends`` map the key of each step that is to be built to its estimated duration, where there is
    one, and to the estimated seconds from the start of the run to its end. ``probed`` are the keys whose duration was
    measured by a probe. ``total``: seconds of the whole run, None where nothing is known. ``unknown``: steps without an
    estimate, which count as 0 s in ``ends`` and ``total``."""

    seconds: Mapping[str, float]
    ends: Mapping[str, float]
    probed: frozenset[str]
    total: float | None
    unknown: int


def planned_run(plan: Plan, recipe: Recipe, inline: bool) -> PlannedRun:
    """The run of a plan on this machine: on a Ray of its own, or ``inline``, in one process."""
    capacity = this_machine(inline)

    def resources(node: Node) -> Resources:
        return allot(node, recipe.resources, capacity)

    return PlannedRun(plan, resources, capacity, inline)


def this_machine(inline: bool = False) -> Capacity:
    """The CPUs, GPUs and memory of this machine. A run in one process uses no GPU."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = hardware()["gpus"]
    count = len(gpus) if isinstance(gpus, list) and not inline else 0
    return Capacity.fixed(Amount(float(os.cpu_count() or 1), float(count), float(memory)))


def forecast(run: PlannedRun, recipe: Recipe, measured: Measurements) -> Forecast:
    """The forecast for a run. Records of comparable steps win over measurements of a probe."""
    recorded = estimate(run.plan, measured.storage, hardware(), recipe.resources)
    topics = Topics(hardware())
    probed = extrapolated(run, measured, topics) if run.plan.builds else {}
    seconds = probed | recorded
    unknown = len(run.plan.builds) - len(seconds)
    if not seconds:
        return Forecast({}, {}, frozenset(), None, unknown)
    node_runs = node_runs_of([step.node for step in run.plan.builds], run.resources)
    state = RunState(RunInfo(""), node_runs, RunCapacity(run.capacity.cpus, run.capacity.gpus, not run.inline))
    place = measured.figures(topics.place(run.inline)) or {}
    known = {node_run.key: seconds.get(node_run.key, 0.0) for node_run in node_runs}
    ends = {key: place.get("open", 0.0) + end for key, end in simulated_ends(node_runs, known, state).items()}
    total = max(ends.values()) + place.get("close", 0.0)
    return Forecast(seconds, ends, frozenset(probed.keys() - recorded.keys()), total, unknown)


def total_text(plan: Plan, found: Forecast) -> str:
    """One line: how long the run takes on this machine, and how many steps have no estimate."""
    if found.total is None:
        return "time unknown: no comparable record on such hardware; plan --probe measures it"
    if not found.unknown:
        return f"{run_time(found.total)} on this machine"
    return (
        f"at least {run_time(found.total)} on this machine: {found.unknown} of {len(plan.builds)} stages have no "
        "comparable record on such hardware; plan --probe measures them"
    )


def run_time(seconds: float) -> str:
    """``~32 s``, ``~3 min 20 s``, from ten minutes on as ``approximate_time``."""
    tens = round(seconds / 10) * 10
    if not 90 <= tens < 600:
        return approximate_time(seconds)
    return f"~{tens // 60} min {tens % 60} s" if tens % 60 else f"~{tens // 60} min"
