from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets

from cluster.amount import Amount
from cluster.resources import Capacity, Growth, Resources
from pipeline.plan.resources import allot, default

LAPTOP = Capacity.fixed(Amount(2))
SERVERS = Capacity.fixed(Amount(64), Amount(64))
GPUS = Capacity.fixed(Amount(32, 4), Amount(32, 4))
DGX = Capacity.fixed(Amount(128, 8))
NARROW = Capacity.fixed(Amount(4, 8))
UNEQUAL = Capacity.fixed(Amount(2), Amount(16), Amount(8, 1), Amount(6, 4))
FRACTION = Capacity.fixed(Amount(4, 0.5))
HALVES = Capacity.fixed(Amount(4, 0.5), Amount(4, 0.5))
SCALES_TO_ZERO = Capacity((Amount(4),), Growth(((1, Amount(4)), (4, Amount(8, 2)))))
UNKNOWN = Capacity((Amount(4),), None)
ALL = (LAPTOP, SERVERS, GPUS, DGX, NARROW, UNEQUAL, FRACTION, HALVES, SCALES_TO_ZERO, UNKNOWN)
MODELS = ("finetune", "teach", "distil", "evaluate")


@pytest.mark.parametrize("role", MODELS)
def test_without_gpus_a_model_gets_the_cpus_of_a_node_at_most_four(role: str) -> None:
    assert default(role, LAPTOP) == Resources(cpus_per_worker=2)
    assert default(role, SERVERS) == default(role, UNKNOWN) == Resources(cpus_per_worker=4)
    assert default(role, FRACTION) == default(role, HALVES) == Resources(cpus_per_worker=4)


def test_on_a_node_of_eight_gpus_a_student_gets_one_of_them_and_the_teacher_all() -> None:
    assert default("distil", DGX) == default("evaluate", DGX) == Resources(1, 4, 1.0)
    assert default("teach", DGX) == Resources(8, 4, 1.0)
    assert DGX.packs([default("distil", DGX).demand] * 8), "eight students side by side"
    assert default("teach", GPUS) == Resources(8, 4, 1.0)


def test_a_gpu_comes_with_its_share_of_the_cpus_of_the_poorest_node() -> None:
    assert default("distil", UNEQUAL) == Resources(1, 1, 1.0)
    assert default("teach", UNEQUAL) == Resources(5, 1, 1.0)
    assert default("teach", NARROW) == Resources(4, 1, 1.0), "no more workers than there are CPUs for"


def test_gpus_that_an_autoscaler_may_add_count() -> None:
    assert default("teach", SCALES_TO_ZERO) == Resources(8, 4, 1.0)
    assert default("distil", SCALES_TO_ZERO) == Resources(1, 4, 1.0)


@pytest.mark.parametrize("capacity", ALL)
def test_a_corpus_needs_one_cpu(capacity: Capacity) -> None:
    assert default("corpus", capacity) == Resources()


@pytest.mark.parametrize("capacity", ALL)
@pytest.mark.parametrize("role", ["corpus", *MODELS])
def test_default_resources_always_fit(role: str, capacity: Capacity) -> None:
    wanted = default(role, capacity)
    assert capacity.most(wanted.each) >= wanted.workers


def test_the_recipe_overrides_the_defaults(tmp_path: Path) -> None:
    blocks = {
        "distil": {"workers": 3, "memory_per_worker": "2GB", "custom": {"tpu": 1, "disk": 0.5}},
        "teach": {"gpus_per_worker": 0},
        "evaluate": {"cpus_per_worker": 8},
    }
    recipe, graph = graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs", resources=blocks)
    found = {name: allot(node, recipe.resources, GPUS) for name, node in nodes_by_name(graph).items()}
    assert found["distil/no-kd/two/0@tiny"] == Resources(3, 4, 1.0, 2_000_000_000, (("disk", 0.5), ("tpu", 1.0)))
    assert found["teach@tiny"] == Resources(8, 4, 0.0)
    assert found["finetune@tiny"] == Resources(1, 4, 1.0)
    assert found["evaluate/teacher@tiny"] == Resources(1, 8, 1.0)


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        ({"gpus_per_worker": 0.5}, Resources(16, 4, 0.5)),
        ({"cpus_per_worker": 16}, Resources(4, 16, 1.0)),
        ({"cpus_per_worker": 16, "workers": 2}, Resources(2, 16, 1.0)),
        ({"custom": {"tpu": 1}}, Resources(1, 4, 1.0, None, (("tpu", 1.0),))),
    ],
)
def test_the_teacher_gets_as_many_workers_as_fit_with_the_recipes_resources(
    tmp_path: Path, block: dict[str, object], wanted: Resources
) -> None:
    assets = write_plannable_assets(tmp_path / "assets")
    recipe, graph = graph_of(assets, tmp_path / "runs", resources={"teach": block})
    assert allot(nodes_by_name(graph)["teach@tiny"], recipe.resources, GPUS) == wanted


def test_stages_that_run_no_model_get_no_gpu(tmp_path: Path) -> None:
    """Ensembles have the role evaluate and probes the role teach, but neither runs a model."""
    blocks = {"teach": {"gpus_per_worker": 1, "workers": 2}, "evaluate": {"gpus_per_worker": 0.5}}
    changes = {
        "models": {
            "one": {"cut": {"of": "teacher", "layers": [1]}, "method": "no-kd"},
            "both": {"members": ["teacher", "one"]},
        },
        "method": "universal-kd",
        "resources": blocks,
    }
    recipe, graph = graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs", **changes)
    found = {name: allot(node, recipe.resources, GPUS) for name, node in nodes_by_name(graph).items()}
    assert found["probe@tiny"] == Resources(2, 4, 0.0)
    assert found["ensemble/both@tiny"] == Resources(1, 4, 0.0)
    assert found["evaluate/one@tiny"] == Resources(1, 4, 0.5)


def test_trainings_share_a_worker_where_the_recipe_says_so(tmp_path: Path) -> None:
    blocks = {"distil": {"gpus_per_worker": 0.5, "trainings_per_worker": 16}}
    recipe, graph = graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs", resources=blocks)
    found = {name: allot(node, recipe.resources, GPUS) for name, node in nodes_by_name(graph).items()}
    student = found["distil/no-kd/two/0@tiny"]
    assert student == Resources(1, 4, 0.5, trainings_per_worker=16)
    assert found["finetune@tiny"].trainings_per_worker == 1
    one_gpu = Capacity.fixed(Amount(8, 1))
    assert one_gpu.packs([student.demand] * 32)
    assert not one_gpu.packs([student.demand] * 33)
