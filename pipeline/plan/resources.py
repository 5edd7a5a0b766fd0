"""The resources of each node: what the recipe sets, and defaults that suit a laptop and a cluster with GPUs.

With GPUs, each worker of a stage that runs a model gets one, with its share of the CPUs of its machine, and the teacher
gets as many workers as there are GPUs. Without, such a stage gets the CPUs of a machine. It is four CPUs at most: with
the same resources for all stages, processes that have loaded torch serve one stage after another, and a larger machine
runs several at once. Machines that an autoscaler may add count as if they were there.
"""

from collections.abc import Mapping
from dataclasses import replace

from cluster.resources import Capacity, Resources
from pipeline.graph.nodes import Node
from pipeline.recipe import ResourceBlock

MAX_CPUS = 4
"""CPUs of a worker by default, at most."""

WITHOUT_A_MODEL = ("corpus", "texts", "bank", "transfer", "unlabelled", "sift", "ensemble", "probe")
"""Stages that run no model, whatever their role: they get no GPU."""


def runs_a_model(node: Node) -> bool:
    """Whether the node's stage runs a model. Not so with TF-IDF as encoder, or a list of synonyms to rewrite with."""
    return node.spec.stage not in WITHOUT_A_MODEL and (
        node.role not in ("embed", "candidates") or not MODEL_INPUTS.isdisjoint(node.inputs)
    )


MODEL_INPUTS = frozenset({"encoder", "model", "there", "back"})
"""Names of inputs that are models which the stage runs."""

PARALLEL_ROLES = ("teach", "embed", "candidates")
"""Roles that run a model over independent rows: they get a worker for each GPU."""


def allot(node: Node, blocks: Mapping[str, ResourceBlock], capacity: Capacity) -> Resources:
    """The resources of ``node``: the recipe's settings for its role, and defaults for the rest."""
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
        trainings_per_worker=block.trainings_per_worker,
    )
    return replace(wanted, workers=block.workers or _workers(usual, wanted, capacity))


def _workers(usual: Resources, wanted: Resources, capacity: Capacity) -> int:
    """The default number of workers, adapted to the recipe's resources for each: several may share a GPU."""
    if usual.workers == 1:
        return 1
    room = capacity.most(wanted.each)
    return max(1, room if wanted.gpus_per_worker else min(usual.workers, room))


def default(role: str, capacity: Capacity) -> Resources:
    """The default resources of a role on a cluster of this capacity."""
    if role in ("corpus", "bank"):
        return Resources()
    shares = [node.cpus / node.gpus for node in capacity.kinds if node.gpus >= 1]
    if shares:
        one = Resources(cpus_per_worker=_cpus(min(shares)), gpus_per_worker=1.0)
        room = capacity.most(one.each)
        if room:
            return replace(one, workers=room) if role in PARALLEL_ROLES else one
    return Resources(cpus_per_worker=_cpus(max((node.cpus for node in capacity.kinds), default=1.0)))


def _cpus(available: float) -> int:
    return max(1, min(int(available), MAX_CPUS))
