from collections.abc import Mapping
from pathlib import Path

import pytest
from project import ONE_THREAD, graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.graph.nodes import Edge, ExternalInput, Graph, Node, Quantity
from stages.specs.base import Spec
from stages.specs.evaluation import EvaluateSpec
from stages.specs.student import DistilSpec, Pretrained, Train
from stages.specs.teacher import TeachSpec


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def node(name: str, spec: Spec, inputs: Mapping[str, Edge | ExternalInput], role: str = "") -> Node:
    return Node(name, role or spec.stage, "tiny", spec, inputs)


MODEL = ExternalInput("identity of the model", Path("model"), "a model")
TEACHER = node("finetune@tiny", DistilSpec(start=Pretrained()), {"start": MODEL}, "finetune")
STORE = node("teach@tiny", TeachSpec(), {"model": Edge(TEACHER, "model")})
STUDENT = node(
    "distil/kd/two/0@tiny", DistilSpec(start=Pretrained(), train=Train(seed=1)), {"outputs": Edge(STORE)}, "distil"
)
LONER = node("evaluate/teacher@tiny", EvaluateSpec(), {"model": Edge(TEACHER, "model")})


def test_a_graph_holds_the_wanted_nodes_after_all_their_inputs() -> None:
    assert Graph.of([STUDENT]).nodes == (TEACHER, STORE, STUDENT)


def test_nodes_with_equal_keys_are_one_node() -> None:
    again = node("another name", STORE.spec, STORE.inputs)
    assert again.key == STORE.key
    assert Graph.of([STUDENT, again, LONER]).nodes == (TEACHER, STORE, STUDENT, LONER)


def test_dependants_are_all_nodes_that_need_a_node() -> None:
    graph = Graph.of([STUDENT, LONER])
    assert graph.dependants({STORE.key}) == {STORE.key, STUDENT.key}
    assert graph.dependants({TEACHER.key}) == {n.key for n in graph.nodes}
    assert graph.dependants({LONER.key}) == {LONER.key}


def test_inputs_change_the_key_of_a_node() -> None:
    other = node("teach@tiny", TeachSpec(pooling="cls"), STORE.inputs)
    assert node("x", STUDENT.spec, {"outputs": Edge(other)}).key != STUDENT.key


def test_a_path_is_not_part_of_a_key() -> None:
    moved = ExternalInput(MODEL.identity, Path("elsewhere"), "another word for it")
    assert node("x", TEACHER.spec, {"start": moved}).key == TEACHER.key


def test_a_node_is_selected_by_role_stage_name_or_the_start_of_its_name() -> None:
    request = {
        name: STUDENT.matches_stage_option(name)
        for name in ("distil", "distil/kd", "distil/kd/two/0", "distil/k", "teach")
    }
    assert request == {
        "distil": True,
        "distil/kd": True,
        "distil/kd/two/0": True,
        "distil/k": False,
        "teach": False,
    }
    assert TEACHER.matches_stage_option("finetune")
    assert TEACHER.matches_stage_option("distil"), "a teacher is fine-tuned by the stage distil"


def test_figures_are_exact_bounds_or_unknown() -> None:
    assert (Quantity.exact(3).kind, Quantity.at_most(3).kind, Quantity.unknown("corpus@x").until) == (
        "exact",
        "at most",
        "corpus@x",
    )


# --- recipes --------------------------------------------------------------------------------------


def keys_of(assets: Path, **changes: object) -> dict[str, str]:
    _, graph = graph_of(assets, assets / "runs", **changes)
    return {name: found.key for name, found in nodes_by_name(graph).items()}


def test_resources_limits_name_and_storage_never_change_a_key(assets: Path) -> None:
    more = {stage: {"workers": 7, "gpus_per_worker": 1, "memory_per_worker": "8GB"} for stage in ONE_THREAD}
    changed = keys_of(assets, resources=more, limits={"store_bytes": "1TB"}, name="other", storage="elsewhere")
    assert changed == keys_of(assets)


def test_labels_are_not_part_of_a_key(assets: Path) -> None:
    changed = keys_of(assets, student={"label": "renamed", "cut": {"of": "teacher", "layers": [1, 3]}})
    assert set(changed.values()) == set(keys_of(assets).values())


def test_the_paths_of_models_and_data_are_not_part_of_a_key(assets: Path, tmp_path: Path) -> None:
    assert keys_of(write_plannable_assets(tmp_path / "moved")) == keys_of(assets)


def test_two_methods_share_nodes(assets: Path) -> None:
    _, graph = graph_of(assets, assets / "runs", method=["vanilla-kd", "annealing-kd", "no-kd"], seeds=[0, 1])
    roles = [found.role for found in graph.nodes]
    assert {role: roles.count(role) for role in roles} == {
        "corpus": 1,
        "finetune": 1,
        "teach": 1,
        "distil": 6,
        "evaluate": 7,
    }


def test_a_method_without_a_teacher_needs_no_store(assets: Path) -> None:
    _, graph = graph_of(assets, assets / "runs", method="no-kd")
    assert not any(found.role == "teach" for found in graph.nodes)


def test_a_teacher_is_an_edge(assets: Path) -> None:
    _, graph = graph_of(
        assets,
        assets / "runs",
        models={"assistant": {"cut": {"of": "teacher", "layers": [1, 2, 3]}, "method": "vanilla-kd"}},
        method=["vanilla-kd", {"use": "vanilla-kd", "label": "takd", "taught_by": "assistant"}],
    )
    found = nodes_by_name(graph)

    def teacher_of(name: str) -> str:
        outputs = found[name].inputs["outputs"]
        assert isinstance(outputs, Edge)
        return outputs.source.name

    assert teacher_of("distil/vanilla-kd/two/0@tiny") == "teach@tiny"
    assert teacher_of("distil/takd/two/0@tiny") == "teach/assistant@tiny"
    assert teacher_of("distil/assistant@tiny") == "teach@tiny"
    assert found["distil/takd/two/0@tiny"].spec == found["distil/vanilla-kd/two/0@tiny"].spec


def test_students_with_another_tokenizer_get_their_own_corpus(assets: Path) -> None:
    other = write_plannable_model(assets / "other", num_hidden_layers=2)
    (other / "tokenizer.json").write_text('{"vocab": {"a": 1}}', "utf-8")
    _, graph = graph_of(assets, assets / "runs", student={"label": "other", "model": str(other)})
    student = nodes_by_name(graph)["distil/vanilla-kd/other/0@tiny"]
    corpora = {found.key: found.name for found in graph.nodes if found.role == "corpus"}
    assert len(corpora) == 2
    assert corpora[student.input_keys["corpus"]] != "corpus@tiny"
    store = nodes_by_name(graph)["teach@tiny"]
    assert corpora[store.input_keys["corpus"]] == "corpus@tiny"


def test_of_two_trainings_of_one_key_the_one_that_keeps_every_epoch_is_built(tmp_path: Path) -> None:
    """The first named keeps its best epoch, the second every one, and a student learns from an epoch of the second."""
    models = {
        "a": {"cut": {"of": "teacher", "layers": [1, 3]}, "method": "vanilla-kd"},
        "b": {"cut": {"of": "teacher", "layers": [1, 3]}, "method": "vanilla-kd", "train": {"keep": "epochs"}},
    }
    assets = write_plannable_assets(tmp_path / "assets")
    method = {"use": "vanilla-kd", "label": "early", "taught_by": "b:2"}
    _, graph = graph_of(assets, tmp_path / "runs", models=models, method=method, equal_steps=False)
    (training,) = [node for node in graph.nodes if node.name == "distil/a@tiny"]
    assert isinstance(training.spec, DistilSpec) and training.spec.train.keep == "epochs"
    assert not [node for node in graph.nodes if node.name == "distil/b@tiny"], "it has the same key"
    (store,) = [node for node in graph.nodes if node.name == "teach/b:2@tiny"]
    assert store.input_keys["model"] == f"{training.key}/epochs/02"
