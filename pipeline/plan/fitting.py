"""Check before any work that a cluster can ever give the stages of a graph their resources."""

from collections.abc import Callable

from cluster.resources import Capacity, Resources
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node


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
