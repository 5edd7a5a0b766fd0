"""The ready-made recipes: each reads, and comes to a graph."""

from pathlib import Path

import pytest
from project import ROOT
from shipped_recipes import RECIPES, local_graph, local_recipe

from pipeline.graph.nodes import Graph, Node
from pipeline.methods import METHODS
from pipeline.recipe import load
from pipeline.recipe.yaml import read
from stages.specs.method import Method
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import DistilSpec


def students(graph: Graph, label: str) -> list[DistilSpec]:
    """What the students of a method are, by the method's label."""
    return [node.spec for node in graph.nodes if f"distil/{label}/" in node.name and isinstance(node.spec, DistilSpec)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_with_what_it_is_for_and_is_named_like_its_file(path: Path) -> None:
    lines = path.read_text("utf-8").split("\n")
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 140
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_comes_to_a_graph(path: Path, recipe_assets: Path) -> None:
    recipe, graph = local_recipe(path, recipe_assets), local_graph(path, recipe_assets)
    wanted = sum(len(task.methods) * len(task.students) * len(task.seeds) for task in recipe.tasks)
    assert len([node for node in graph.wanted if is_student(node)]) == wanted


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_chooses_the_head_of_a_model_that_was_trained_with_mean_pooling(
    path: Path, recipe_assets: Path
) -> None:
    assert [line for line in local_graph(path, recipe_assets).warnings if "mean pooling" in line] == []


def is_student(node: Node) -> bool:
    return isinstance(node.spec, DistilSpec | PretrainSpec) and node.subject is not None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_students_of_a_recipe_take_equal_steps(path: Path) -> None:
    for task in load(path).tasks:
        assert len({(use.train.epochs, use.train.batch_size) for use in task.methods}) == 1


def test_a_chain_runs_from_teacher_to_assistant_to_student(recipe_assets: Path) -> None:
    for name in ("chain-roberta", "chain-bert", "chain-minilm"):
        graph = local_graph(ROOT / "recipes" / f"{name}.yaml", recipe_assets)
        by_name = {node.name: node for node in graph.nodes}
        (student,) = [node for node in by_name if node.startswith("distil/takd/") and node.endswith("/0@cola")]
        outputs = by_name[student].input_keys["outputs"]
        (store,) = [node for node in graph.nodes if node.key == outputs]
        assert "assistant" in store.name


@pytest.mark.parametrize(
    ("name", "tasks"), [("chain-bert", {"mrpc", "sst2", "qnli", "wnli"}), ("chain-minilm", {"mrpc", "sst2_sentences"})]
)
def test_small_students_are_annealed_from_7_on_some_tasks_and_from_14_on_the_others(
    name: str, tasks: set[str], recipe_assets: Path
) -> None:
    recipe = local_recipe(ROOT / "recipes" / f"{name}.yaml", recipe_assets)
    most = {
        task.task.name: {use.label: use for use in task.methods}["annealing-kd"].method.training.model_dump()
        for task in recipe.tasks
    }
    seven = {name for name, training in most.items() if training["max_temperature"] == 7}
    assert seven == tasks
    assert {training["max_temperature"] for training in most.values()} == {7, 14}


def test_three_students_may_go_on_from_that_of_mnli(recipe_assets: Path) -> None:
    path = ROOT / "recipes" / "chain-roberta.yaml"
    (line,) = [line for line in path.read_text("utf-8").split("\n") if "--set" in line]
    graph = local_graph(path, recipe_assets, [line.partition("'")[2].rpartition("'")[0]])
    by_name = {node.name: node for node in graph.nodes}
    for task in ("rte", "mrpc", "stsb"):
        start = by_name[f"distil/annealing-kd/six/0@{task}"].input_keys["start"]
        assert start == by_name["distil/annealing-kd/six/0@mnli"].key


def test_the_layers_of_the_tables_are_those_of_the_slides(recipe_assets: Path) -> None:
    four = local_graph(ROOT / "recipes" / "layers-12-to-4.yaml", recipe_assets)
    two = local_graph(ROOT / "recipes" / "layers-12-to-2.yaml", recipe_assets)
    for graph, label, groups in (
        (four, "ckd-no", [(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)]),
        (four, "alp-po", [(1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 9, 10), (9, 10, 11, 12)]),
        (two, "pkd-6", [(6,)]),
        (two, "pkd-12", [(12,)]),
        (two, "alp", [tuple(range(1, 13))] * 2),
    ):
        for spec in students(graph, label):
            assert [group.teacher for group in spec.method.structure.layer_groups()] == groups


def test_the_layers_of_minilm_are_mapped_into_one_and_three_as_twelve_into_two_and_six(recipe_assets: Path) -> None:
    one = local_graph(ROOT / "recipes" / "layers-minilm-1.yaml", recipe_assets)
    three = local_graph(ROOT / "recipes" / "layers-minilm-3.yaml", recipe_assets)
    for graph, label, groups in (
        (one, "pkd-1", [(1,)]),
        (one, "pkd-6", [(6,)]),
        (one, "ckd", [(1, 2, 3, 4, 5, 6)]),
        (one, "alp", [(1, 2, 3, 4, 5, 6)]),
        (three, "pkd", [(2,), (4,)]),
        (three, "pkd-last", [(4,), (5,)]),
        (three, "ckd-no", [(1, 2), (3, 4), (5, 6)]),
    ):
        for spec in students(graph, label):
            assert [group.teacher for group in spec.method.structure.layer_groups()] == groups


def test_the_slides_in_small_use_every_method_of_the_catalogue_that_needs_no_bank() -> None:
    tree = read(ROOT / "recipes" / "slides-small.yaml")
    methods = tree["method"]
    assert isinstance(methods, list)
    used = {method["use"] if isinstance(method, dict) else method for method in methods}
    assert used == {named.name for named in METHODS if not named.method.needs_candidates}


def test_minimax_in_small_differs_in_the_texts_beside_the_tasks_own_alone() -> None:
    for task in load(ROOT / "recipes" / "minimax-small.yaml").tasks:
        taught = [use.method for use in task.methods if use.method.needs_teacher]
        assert len({method.model_copy(update={"data": Method().data}) for method in taught}) == 1
        assert len({method.data for method in taught}) == len(taught)


def test_the_slides_in_small_have_the_maps_that_the_slides_name() -> None:
    (cola, *_) = load(ROOT / "recipes" / "slides-small.yaml").tasks
    assert {"pkd-1", "pkd-3", "pkd-6", "ckd-no", "ckd-po"} <= {use.label for use in cola.methods}


def test_a_regression_is_left_out_only_where_a_method_needs_classes() -> None:
    tasks = {
        task.task.name: {use.label for use in task.methods}
        for task in load(ROOT / "recipes" / "slides-small.yaml").tasks
    }
    assert tasks["cola"] - tasks["stsb"] == {"label-smoothing", "virtual-teacher"}
    assert tasks["stsb"] < tasks["cola"]
