from pathlib import Path

import pytest
from house import graph_of, names, write_paper_ground

from cluster.resources import Capacity, Resources
from pipeline.allot import allot, default

LAPTOP = Capacity(cpus=2, gpus=0, nodes=1, most_cpus=2, most_gpus=0)
SERVER = Capacity(cpus=128, gpus=0, nodes=2, most_cpus=64, most_gpus=0)
GPUS = Capacity(cpus=64, gpus=8, nodes=2, most_cpus=32, most_gpus=4)
FRACTION = Capacity(cpus=4, gpus=0.5, nodes=1, most_cpus=4, most_gpus=0.5)


@pytest.mark.parametrize("role", ["finetune", "teach", "distil", "evaluate"])
def test_without_gpus_a_model_gets_the_cpus_of_a_node_at_most_four(role: str) -> None:
    assert default(role, LAPTOP) == Resources(cpus_per_worker=2)
    assert default(role, SERVER) == Resources(cpus_per_worker=4)
    assert default(role, FRACTION) == Resources(cpus_per_worker=4)


def test_with_gpus_a_model_gets_one_and_the_teacher_runs_on_all() -> None:
    assert default("distil", GPUS) == default("evaluate", GPUS) == Resources(gpus_per_worker=1.0)
    assert default("teach", GPUS) == Resources(workers=8, gpus_per_worker=1.0)


@pytest.mark.parametrize("capacity", [LAPTOP, SERVER, GPUS])
def test_a_corpus_needs_one_cpu(capacity: Capacity) -> None:
    assert default("corpus", capacity) == Resources()


@pytest.mark.parametrize("capacity", [LAPTOP, SERVER, GPUS, FRACTION])
@pytest.mark.parametrize("role", ["corpus", "finetune", "teach", "distil", "evaluate"])
def test_a_place_can_always_give_what_a_role_gets_by_default(role: str, capacity: Capacity) -> None:
    wanted = default(role, capacity)
    assert wanted.cpus <= capacity.cpus
    assert wanted.gpus <= capacity.gpus
    assert wanted.cpus_per_worker <= capacity.most_cpus
    assert wanted.gpus_per_worker <= capacity.most_gpus


def test_what_the_recipe_says_comes_first(tmp_path: Path) -> None:
    blocks = {"distil": {"workers": 3, "memory_per_worker": "2GB"}, "teach": {"gpus_per_worker": 0}}
    recipe, graph = graph_of(write_paper_ground(tmp_path / "ground"), tmp_path / "runs", resources=blocks)
    found = {name: allot(node, recipe.resources, GPUS) for name, node in names(graph).items()}
    assert found["distil/no-kd/two/0@tiny"] == Resources(3, 1, 1.0, 2_000_000_000)
    assert found["teach@tiny"] == Resources(8, 1, 0.0)
    assert found["finetune@tiny"] == Resources(1, 1, 1.0)


def test_what_runs_no_model_holds_no_gpu_whatever_its_role(tmp_path: Path) -> None:
    """An ensemble is scored among evaluations, and classifiers on stored layers are fitted among stores."""
    blocks = {"teach": {"gpus_per_worker": 1, "workers": 2}, "evaluate": {"gpus_per_worker": 0.5}}
    changes = {
        "models": {"one": {"from_teacher": [0], "method": "no-kd"}, "both": {"members": ["teacher", "one"]}},
        "method": "universal-kd",
        "resources": blocks,
    }
    recipe, graph = graph_of(write_paper_ground(tmp_path / "ground"), tmp_path / "runs", **changes)
    found = {name: allot(node, recipe.resources, GPUS) for name, node in names(graph).items()}
    assert found["probe@tiny"] == Resources(2, 1, 0.0)
    assert found["ensemble/both@tiny"] == Resources(1, 1, 0.0)
    assert found["evaluate/one@tiny"] == Resources(1, 1, 0.5)
