"""Whether a place can give what the stages of a graph are to have: refused before any work where it never can."""

from collections.abc import Callable

from cluster.resources import Capacity, Resources
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node


def check_resources(
    graph: Graph, resources: Callable[[Node], Resources], capacity: Capacity, pending: float
) -> list[str]:
    """Refuse what the place can never give: by how far it may grow, where that is known.

    Where nobody says, what the present nodes do not hold is waited for, ``pending`` seconds a stage: a line for each
    such role.
    """
    waits: dict[str, str] = {}
    for node in graph.nodes:
        wanted = resources(node)
        if capacity.room(wanted.each) >= wanted.workers:
            continue
        most = capacity.most(wanted.each)
        if most >= wanted.workers:
            continue
        asked = f"resources.{node.role}: {wanted.demand}"
        if capacity.growth is not None:
            there = str(capacity.growth) if capacity.growth.room(wanted.each) == most else str(capacity)
            raise RequestError(f"{asked}, but the cluster can hold {most} at most ({there}); ask for less")
        if not pending:
            raise RequestError(
                f"{asked}, but the cluster holds {most} ({capacity}); ask for less, or give limits.pending time "
                "for more nodes to come"
            )
        waits[node.role] = (
            f"{asked}, but the cluster holds {most} now ({capacity}) and does not say how far it may grow: such a "
            f"stage waits {pending:g} s for more (limits.pending), then fails"
        )
    return list(waits.values())
