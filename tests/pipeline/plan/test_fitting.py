from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets

from cluster.amount import Amount
from cluster.resources import Capacity, Growth, Resources
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph
from pipeline.plan.fitting import check_gpu_parts, check_resources, check_shared_workers, shared_workers

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


def test_trainings_that_share_a_worker_without_a_gpu_are_refused(graph: Graph) -> None:
    wanted = Resources(cpus_per_worker=2, trainings_per_worker=16)
    with pytest.raises(RequestError) as caught:
        check_shared_workers(graph, lambda node: wanted if node.role == "distil" else Resources(), THREE_OF_TWO)
    assert str(caught.value) == (
        "resources.distil.trainings_per_worker: 16, but its workers have no GPU (3 nodes of 2 CPUs); give "
        "resources.distil.gpus_per_worker, or leave trainings_per_worker out"
    )
    check_shared_workers(graph, lambda _: Resources(gpus_per_worker=1.0, trainings_per_worker=16), TWO_NODES)


def test_the_plan_says_how_many_trainings_run_at_once_in_how_many_workers(graph: Graph) -> None:
    students = sum(node.role == "distil" for node in graph.nodes)
    assert students == 2

    def lines(slots: int, capacity: Capacity = TWO_NODES, gpus: float = 1.0) -> list[str]:
        wanted = Resources(cpus_per_worker=3, gpus_per_worker=gpus, trainings_per_worker=slots)
        return shared_workers(graph, lambda node: wanted if node.role == "distil" else Resources(), capacity)

    assert lines(1) == []
    assert lines(16) == ["distil: 2 at once in 1 worker of 3 CPUs, 1 GPU"]
    assert lines(16, THREE_OF_TWO) == [
        "distil: 16 at once in a worker of 3 CPUs, 1 GPU, and this machine has no room for one"
    ]
    assert lines(16, THREE_OF_TWO, 0.0) == [
        "distil: 16 trainings at once in a worker need a GPU, and this machine has none"
    ]


def test_in_threads_of_one_process_every_stage_that_runs_a_model_needs_a_part_of_the_gpu(graph: Graph) -> None:
    check_gpu_parts(graph, lambda node: Resources(gpus_per_worker=0.0 if node.role == "corpus" else 0.1))
    line = "resources.evaluate.gpus_per_worker: 0, but with --gpu every stage that runs a model takes a part of the GPU"
    with pytest.raises(RequestError, match=line):
        check_gpu_parts(graph, lambda node: Resources(gpus_per_worker=0.0 if node.role == "evaluate" else 0.1))
