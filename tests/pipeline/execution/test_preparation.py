"""Which process a run has prepared before its first stage starts."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest
from project import graph_in, write_project

from cluster.inline import Inline
from cluster.resources import Resources
from pipeline.execution.preparation import prepare
from pipeline.graph.nodes import Graph, Node
from pipeline.plan.planner import plan
from pipeline.recipe import load
from pipeline.storage.directory import Directory
from stages.table import AUTO_MODULES, STAGES, WORKER_MODULES


class RecordingPlace(Inline):
    """This process as a place, which records the requests to prepare a process."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, list[str]]] = []

    def prepare(self, resources: Resources, modules: Sequence[str]) -> None:
        self.requests.append((resources.cpus_per_worker, list(modules)))


def prepared(folder: Path, assets: Path, only: Sequence[str] = (), **changes: object) -> list[tuple[int, list[str]]]:
    """The requests to prepare a process for the tiny recipe, or for those of its nodes whose roles are ``only``. A
    finetune gets 3 CPUs, a teacher that computes outputs 5, and everything else 1."""
    project, place = write_project(folder, assets, **changes), RecordingPlace()
    project.storage.mkdir()
    recipe = load(project.recipe, (), str(project.storage))
    graph = graph_in(project.storage, recipe)
    nodes = tuple(node for node in graph.nodes if not only or node.role in only)

    def resources(node: Node) -> Resources:
        return Resources(cpus_per_worker={"finetune": 3, "teach": 5}.get(node.role, 1))

    prepare(plan(Graph(nodes), Directory(project.storage), recipe.name), place, resources)
    return place.requests


def test_the_process_of_the_first_training_is_prepared(assets: Path, tmp_path: Path) -> None:
    assert prepared(tmp_path, assets) == [(3, [*AUTO_MODULES, "stages.training.worker"])]


def test_where_a_model_is_only_evaluated_the_modules_of_transformers_are_loaded_first(
    assets: Path, tmp_path: Path
) -> None:
    assert prepared(tmp_path, assets, only=["evaluate"]) == [(1, list(AUTO_MODULES))]


def test_nothing_is_prepared_where_no_model_is_to_be_run(assets: Path, tmp_path: Path) -> None:
    assert prepared(tmp_path, assets, only=["corpus"]) == []


@pytest.mark.parametrize("module", AUTO_MODULES)
def test_modules_of_transformers_that_are_loaded_first_are_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("module", WORKER_MODULES.values())
def test_each_module_to_be_loaded_is_there_and_belongs_to_a_stage(module: str) -> None:
    root = Path(__file__).parents[3]
    assert (root / module.replace(".", "/")).with_suffix(".py").is_file()
    assert WORKER_MODULES.keys() <= STAGES.keys()
