"""What each node gets of a place, where the recipe does not say. Right on a laptop and on a node of GPUs.

With GPUs, whatever runs a model gets one a worker, and the teacher as many workers as there are GPUs.
Without, students get one CPU each, so that as many as fit are trained side by side, and a teacher, which
all else waits for, gets up to four.
"""

from collections.abc import Mapping

from cluster.resources import Capacity, Resources
from pipeline.graph import Node
from pipeline.recipe import ResourceBlock

MOST_TEACHER_CPUS = 4


def allot(node: Node, blocks: Mapping[str, ResourceBlock], capacity: Capacity) -> Resources:
    """The resources of ``node``: the recipe's word for its role, and defaults for the rest."""
    usual, block = default(node.role, capacity), blocks[node.role]
    return Resources(
        workers=usual.workers if block.workers is None else block.workers,
        cpus_per_worker=usual.cpus_per_worker if block.cpus_per_worker is None else block.cpus_per_worker,
        gpus_per_worker=usual.gpus_per_worker if block.gpus_per_worker is None else block.gpus_per_worker,
        memory_per_worker=block.memory_per_worker,
    )


def default(role: str, capacity: Capacity) -> Resources:
    """What a role gets on a place of this capacity."""
    if capacity.gpus >= 1 and role != "corpus":
        workers = int(capacity.gpus) if role == "teach" else 1
        return Resources(workers=workers, gpus_per_worker=1.0)
    if role in ("finetune", "teach"):
        return Resources(cpus_per_worker=max(1, min(int(capacity.most_cpus), MOST_TEACHER_CPUS)))
    return Resources()
