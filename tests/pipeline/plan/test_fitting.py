from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets

from cluster.amount import Amount
from cluster.resources import Capacity, Growth, Resources
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph
from pipeline.plan.fitting import check_resources

TWO_NODES = Capacity.fixed(Amount(4, 1, 8e9), Amount(4, 1, 8e9))
THREE_OF_TWO = Capacity.fixed(Amount(2), Amount(2), Amount(2))
UNKNOWN = Capacity((Amount(4, 1, 8e9), Amount(4, 1, 8e9)), None)
GROWS = Capacity((Amount(4),), Growth(((1, Amount(4)), (3, Amount(8, 2))), 3))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs")[1]


def checked(graph: Graph, wanted: Resources, capacity: Capacity, pending: float = 600.0) -> list[str]:
    return check_resources(graph, lambda node: wanted if node.role == "distil" else Resources(), capacity, pending)


@pytest.mark.parametrize(
    ("capacity", "wanted", "line"),
    [
        (
            TWO_NODES,
            Resources(9),
            "9 workers of 1 CPU each, but the cluster can hold 8 at most (2 nodes of 4 CPUs, 1 GPU, 8 GB)",
        ),
        (
            TWO_NODES,
            Resources(3, 1, 1.0),
            "3 workers of 1 CPU, 1 GPU each, but the cluster can hold 2 at most (2 nodes of 4 CPUs, 1 GPU, 8 GB)",
        ),
        (
            TWO_NODES,
            Resources(1, 1, 2.0),
            "1 worker of 1 CPU, 2 GPUs, but the cluster can hold 0 at most (2 nodes of 4 CPUs, 1 GPU, 8 GB)",
        ),
        (
            TWO_NODES,
            Resources(3, 1, 0.0, 6_000_000_000),
            "3 workers of 1 CPU, 6 GB each, but the cluster can hold 2 at most (2 nodes of 4 CPUs, 1 GPU, 8 GB)",
        ),
        (
            TWO_NODES,
            Resources(1, custom_per_worker=(("tpu", 1.0),)),
            "1 worker of 1 CPU, 1 tpu, but the cluster can hold 0 at most (2 nodes of 4 CPUs, 1 GPU, 8 GB)",
        ),
        (
            THREE_OF_TWO,
            Resources(1, 4),
            "1 worker of 4 CPUs, but the cluster can hold 0 at most (3 nodes of 2 CPUs)",
        ),
        (
            GROWS,
            Resources(7, 1, 1.0),
            "7 workers of 1 CPU, 1 GPU each, but the cluster can hold 6 at most (1 node of 4 CPUs + 3 nodes of 8 CPUs, "
            "2 GPUs)",
        ),
    ],
)
def test_resources_that_can_never_be_met_are_refused_with_the_numbers(
    graph: Graph, capacity: Capacity, wanted: Resources, line: str
) -> None:
    with pytest.raises(RequestError) as caught:
        checked(graph, wanted, capacity)
    assert str(caught.value) == f"resources.distil: {line}; ask for less"


@pytest.mark.parametrize(
    ("capacity", "wanted"),
    [(TWO_NODES, Resources(2, 4, 1.0)), (THREE_OF_TWO, Resources(3, 2)), (GROWS, Resources(6, 4, 1.0))],
)
def test_resources_that_just_fit_are_accepted_without_a_warning(
    graph: Graph, capacity: Capacity, wanted: Resources
) -> None:
    assert checked(graph, wanted, capacity) == []


def test_if_the_growth_of_the_cluster_is_unknown_there_is_one_warning_for_each_role(graph: Graph) -> None:
    (line,) = checked(graph, Resources(3, 1, 1.0), UNKNOWN)
    assert line == (
        "resources.distil: 3 workers of 1 CPU, 1 GPU each, but the cluster holds 2 now (2 nodes of 4 CPUs, 1 GPU, "
        "8 GB) and does not say how far it may grow: such a stage waits 600 s for more (limits.pending), then fails"
    )


def test_without_time_to_wait_resources_beyond_the_present_nodes_are_refused(graph: Graph) -> None:
    with pytest.raises(RequestError, match=r"^resources.distil: 9 workers .* holds 8 .*limits.pending"):
        checked(graph, Resources(9), UNKNOWN, pending=0.0)
