"""What each node gets of a place, where the recipe does not say. Right on a laptop and on a node of GPUs.

With GPUs, whatever runs a model gets one a worker, with that GPU's share of its node's CPUs, and the teacher as many
workers as there are GPUs. Without, whatever runs a model gets the CPUs of a node. Of CPUs it is four at most: one shape
for all, so that the processes which have loaded torch serve stage after stage; on larger machines several run side by
side. Nodes that an autoscaler says it may add count as if they were there.
"""

from collections.abc import Mapping
from dataclasses import replace

from cluster.resources import Capacity, Resources
from pipeline.graph.nodes import Node
from pipeline.recipe import ResourceBlock

MOST_CPUS = 4

WITHOUT_A_MODEL = ("corpus", "bank", "transfer", "unlabelled", "sift", "ensemble", "probe")
"""Stages that run none, whatever their role: they hold no GPU."""


def runs_a_model(node: Node) -> bool:
    """TF-IDF and a list of synonyms are none."""
    return node.spec.stage not in WITHOUT_A_MODEL and (
        node.role not in ("embed", "candidates") or not MODELS.isdisjoint(node.inputs)
    )


MODELS = frozenset({"encoder", "model", "there", "back"})
"""Inputs of what runs one."""

MANY = ("teach", "embed", "candidates")
"""Roles that run a model over rows: with GPUs, a worker each."""


def allot(node: Node, blocks: Mapping[str, ResourceBlock], capacity: Capacity) -> Resources:
    """The resources of ``node``: the recipe's word for its role, and defaults for the rest."""
    usual, block = default(node.role, capacity), blocks[node.role]
    if not runs_a_model(node):
        usual, block = replace(usual, gpus_per_worker=0.0), block.model_copy(update={"gpus_per_worker": None})
    gpus = usual.gpus_per_worker if block.gpus_per_worker is None else block.gpus_per_worker
    wanted = Resources(
        workers=1,
        cpus_per_worker=usual.cpus_per_worker if block.cpus_per_worker is None else block.cpus_per_worker,
        gpus_per_worker=gpus,
        memory_per_worker=block.memory_per_worker,
        custom_per_worker=tuple(sorted((block.custom or {}).items())),
    )
    return replace(wanted, workers=block.workers or _workers(usual, wanted, capacity))


def _workers(usual: Resources, wanted: Resources, capacity: Capacity) -> int:
    """As many as is usual, and as fit once the recipe has said what each gets: several share a GPU."""
    if usual.workers == 1:
        return 1
    room = capacity.most(wanted.each)
    return max(1, room if wanted.gpus_per_worker else min(usual.workers, room))


def default(role: str, capacity: Capacity) -> Resources:
    """What a role gets on a place of this capacity."""
    if role in ("corpus", "bank"):
        return Resources()
    shares = [node.cpus / node.gpus for node in capacity.kinds if node.gpus >= 1]
    if shares:
        one = Resources(cpus_per_worker=_cpus(min(shares)), gpus_per_worker=1.0)
        room = capacity.most(one.each)
        if room:
            return replace(one, workers=room) if role in MANY else one
    return Resources(cpus_per_worker=_cpus(max((node.cpus for node in capacity.kinds), default=1.0)))


def _cpus(there: float) -> int:
    return max(1, min(int(there), MOST_CPUS))
