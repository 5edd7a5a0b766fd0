"""Check before any work that a cluster can ever give the stages of a graph their resources."""

from collections import Counter
from collections.abc import Callable

from cluster.resources import Capacity, Resources
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node
from pipeline.plan.resources import runs_a_model


def check_resources(
    graph: Graph, resources: Callable[[Node], Resources], capacity: Capacity, pending: float
) -> list[str]:
    """Raises RequestError if a stage needs more than the cluster can ever have, where it is known how far it may grow.

    Where that is not known, a stage for which the present nodes are too small waits ``pending`` seconds for more nodes
    (0: RequestError). Returns a warning for each role of such stages.
    """
    waits: dict[str, str] = {}
    for node in graph.nodes:
        wanted = resources(node)
        if capacity.room(wanted.each) >= wanted.workers:
            continue
        most = capacity.most(wanted.each)
        if most >= wanted.workers:
            continue
        request = f"resources.{node.role}: {wanted.demand}"
        if capacity.growth is not None:
            limit = str(capacity.growth) if capacity.growth.room(wanted.each) == most else str(capacity)
            raise RequestError(f"{request}, but the cluster can hold {most} at most ({limit}); ask for less")
        if not pending:
            raise RequestError(
                f"{request}, but the cluster holds {most} ({capacity}); ask for less, or give limits.pending time "
                "for more nodes to join"
            )
        waits[node.role] = (
            f"{request}, but the cluster holds {most} now ({capacity}) and does not say how far it may grow: such a "
            f"stage waits {pending:g} s for more (limits.pending), then fails"
        )
    return list(waits.values())


def check_shared_workers(graph: Graph, resources: Callable[[Node], Resources], capacity: Capacity) -> None:
    """Raises RequestError if trainings are to share a worker that gets no GPU: on a CPU they would share one random
    generator and one pool of threads."""
    for node in graph.nodes:
        wanted = resources(node)
        if wanted.trainings_per_worker > 1 and not wanted.gpus_per_worker:
            raise RequestError(
                f"resources.{node.role}.trainings_per_worker: {wanted.trainings_per_worker}, but its workers have no "
                f"GPU ({capacity}); give resources.{node.role}.gpus_per_worker, or leave trainings_per_worker out"
            )


def check_gpu_parts(graph: Graph, resources: Callable[[Node], Resources]) -> None:
    """Raises RequestError if a stage that runs a model has no part of the GPU, where stages run in threads of one
    process: on the CPU such stages would share one number of threads, which decides the bits of their sums."""
    for node in graph.nodes:
        if runs_a_model(node) and not resources(node).gpus_per_worker:
            raise RequestError(
                f"resources.{node.role}.gpus_per_worker: 0, but with --gpu every stage that runs a model takes a part "
                "of the GPU; give it one, or leave the key out"
            )


def shared_workers(graph: Graph, resources: Callable[[Node], Resources], capacity: Capacity) -> list[str]:
    """For each role whose trainings share workers, a line: how many of them run at once, and in how many workers."""
    trainings = Counter(
        (node.role, wanted) for node in graph.nodes if (wanted := resources(node)).trainings_per_worker > 1
    )
    lines = []
    for (role, wanted), count in trainings.items():
        slots = wanted.trainings_per_worker
        at_once = min(count, slots * capacity.room(wanted.each))
        if not wanted.gpus_per_worker:
            lines.append(f"{role}: {slots} trainings at once in a worker need a GPU, and this machine has none")
        elif not at_once:
            lines.append(f"{role}: {slots} at once in a worker of {wanted.each}, and this machine has no room for one")
        else:
            lines.append(f"{role}: {at_once} at once in {wanted.demand_of(at_once)}")
    return lines
