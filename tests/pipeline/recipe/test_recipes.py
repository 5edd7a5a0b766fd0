"""The ready-made recipes: each reads, and comes to a graph."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import ROOT, graph_in, write_plannable_model

from pipeline.graph.nodes import Graph, Node
from pipeline.methods import METHODS
from pipeline.recipe import Recipe, load, parse
from pipeline.recipe.yaml import Tree, read
from stages.specs.layer_map import groups_of
from stages.specs.method import Method
from stages.specs.student import DistilSpec
from stages.specs.tasks import BUILT_IN, Task

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

MODELS = {
    "roberta-large": ("roberta", 24),
    "roberta-base": ("roberta", 12),
    "distilroberta-base": ("roberta", 6),
    "bert-large-uncased": ("bert", 24),
    "bert-base-uncased": ("bert", 12),
    "google/bert_uncased_L-4_H-512_A-8": ("bert", 4),
    "distilbert-base-uncased": ("distilbert", 6),
    "sentence-transformers/all-MiniLM-L6-v2": ("bert", 6),
}
"""The models of the recipes: architecture and depth."""


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On paper: each of these models in ``models``, and a few rows of each task in ``data``."""
    folder = tmp_path_factory.mktemp("recipes")
    for name, (kind, depth) in MODELS.items():
        layers = {"dim": 32, "n_layers": depth} if kind == "distilbert" else {"num_hidden_layers": depth}
        write_plannable_model(folder / "models" / name, model_type=kind, **layers)
    for task in BUILT_IN.values():
        write_rows(folder / "data" / task.name, task)
    texts = [f"sentence number {row}" for row in range(60)]
    bank = {"text": texts, "sentence1": texts, "sentence2": texts[::-1]}
    pq.write_table(pa.table(bank), folder / "bank.parquet")
    return folder


def write_rows(folder: Path, task: Task, rows: int = 60) -> None:
    folder.mkdir(parents=True)
    labels = (
        [float(row % 5) for row in range(rows)] if task.labels is None else [row % task.outputs for row in range(rows)]
    )
    for split in {task.train, *task.dev_splits}:
        texts = {column: [f"{split} {column} {row}" for row in range(rows)] for column in task.text}
        pq.write_table(pa.table({**texts, task.label: labels}), folder / f"{split}.parquet")


def with_local(tree: Tree, assets: Path) -> Tree:
    """The tree with directories in the place of the models' names."""
    if isinstance(tree, dict):
        return {key: with_local(child, assets) for key, child in tree.items()}
    if isinstance(tree, list):
        return [with_local(child, assets) for child in tree]
    return str(assets / "models" / tree) if isinstance(tree, str) and tree in MODELS else tree


def local(path: Path, assets: Path, sets: Sequence[str] = ()) -> Recipe:
    """A recipe over what is here."""
    text = path.read_text("utf-8")
    source = [] if "task: reviews" in text else [f"data.source={assets / 'data'}"]
    bank = [f"bank.files={assets / 'bank.parquet'}"] if "bank: {files" in text else []
    return parse(with_local(read(path), assets), [*source, *bank, *sets])


def composed(path: Path, assets: Path, sets: Sequence[str] = ()) -> Graph:
    return graph_in(assets / "runs", local(path, assets, sets))


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
def test_a_recipe_comes_to_a_graph(path: Path, assets: Path) -> None:
    recipe, graph = local(path, assets), composed(path, assets)
    wanted = sum(len(task.methods) * len(task.students) * len(task.seeds) for task in recipe.tasks)
    assert len([node for node in graph.wanted if is_student(node)]) == wanted


def is_student(node: Node) -> bool:
    return isinstance(node.spec, DistilSpec) and node.subject is not None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_students_of_a_recipe_take_equal_steps(path: Path) -> None:
    for task in load(path).tasks:
        assert len({(use.train.epochs, use.train.batch_size) for use in task.methods}) == 1


def test_a_chain_runs_from_teacher_to_assistant_to_student(assets: Path) -> None:
    for name in ("chain-roberta", "chain-bert", "chain-minilm"):
        graph = composed(ROOT / "recipes" / f"{name}.yaml", assets)
        by_name = {node.name: node for node in graph.nodes}
        (student,) = [node for node in by_name if node.startswith("distil/takd/") and node.endswith("/0@cola")]
        outputs = by_name[student].input_keys["outputs"]
        (store,) = [node for node in graph.nodes if node.key == outputs]
        assert "assistant" in store.name


@pytest.mark.parametrize(
    ("name", "tasks"), [("chain-bert", {"mrpc", "sst2", "qnli", "wnli"}), ("chain-minilm", {"mrpc", "sst2_sentences"})]
)
def test_small_students_are_annealed_from_7_on_some_tasks_and_from_14_on_the_others(
    name: str, tasks: set[str], assets: Path
) -> None:
    recipe = local(ROOT / "recipes" / f"{name}.yaml", assets)
    most = {
        task.task.name: {use.label: use for use in task.methods}["annealing-kd"].method.training.model_dump()
        for task in recipe.tasks
    }
    seven = {name for name, training in most.items() if training["max_temperature"] == 7}
    assert seven == tasks
    assert {training["max_temperature"] for training in most.values()} == {7, 14}


def test_three_students_may_go_on_from_that_of_mnli(assets: Path) -> None:
    path = ROOT / "recipes" / "chain-roberta.yaml"
    (line,) = [line for line in path.read_text("utf-8").split("\n") if "--set" in line]
    graph = composed(path, assets, [line.partition("'")[2].rpartition("'")[0]])
    by_name = {node.name: node for node in graph.nodes}
    for task in ("rte", "mrpc", "stsb"):
        start = by_name[f"distil/annealing-kd/six/0@{task}"].input_keys["start"]
        assert start == by_name["distil/annealing-kd/six/0@mnli"].key


def test_the_layers_of_the_tables_are_those_of_the_slides(assets: Path) -> None:
    four = composed(ROOT / "recipes" / "layers-12-to-4.yaml", assets)
    two = composed(ROOT / "recipes" / "layers-12-to-2.yaml", assets)
    for graph, label, groups in (
        (four, "ckd-no", [(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)]),
        (four, "alp-po", [(1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 9, 10), (9, 10, 11, 12)]),
        (two, "pkd-6", [(6,)]),
        (two, "pkd-12", [(12,)]),
        (two, "alp", [tuple(range(1, 13))] * 2),
    ):
        for spec in students(graph, label):
            assert [group.teacher for group in groups_of(spec.method.structure)] == groups


def test_the_layers_of_minilm_are_mapped_into_one_and_three_as_twelve_into_two_and_six(assets: Path) -> None:
    one = composed(ROOT / "recipes" / "layers-minilm-1.yaml", assets)
    three = composed(ROOT / "recipes" / "layers-minilm-3.yaml", assets)
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
            assert [group.teacher for group in groups_of(spec.method.structure)] == groups


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
