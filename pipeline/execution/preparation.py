"""Have the process for a run's first model started while the stages before it run."""

from collections.abc import Callable

from cluster.resources import Place, Resources
from pipeline.graph.nodes import Node
from pipeline.plan.planner import Plan
from pipeline.plan.resources import runs_a_model
from pipeline.plan.urgency import urgencies
from stages.table import AUTO_MODULES, WORKER_MODULES


def prepare(plan: Plan, place: Place, resources: Callable[[Node], Resources]) -> None:
    """Tell ``place`` of the first node that trains a model or computes outputs of one, or else of the first that runs
    one. A process for it loads torch and transformers while the corpus is read; a place that runs stages in threads
    loads them before the first. ``resources``: the resources of a node."""
    nodes = [step.node for step in plan.builds]
    order = urgencies(nodes)
    running = [node for node in nodes if runs_a_model(node)]
    heavy = [node for node in running if type(node.spec) in WORKER_MODULES]
    if running:
        first = min(heavy or running, key=lambda node: order[node.key])
        own = [WORKER_MODULES[type(first.spec)]] if heavy else []
        place.prepare(resources(first), [*AUTO_MODULES, *own])
