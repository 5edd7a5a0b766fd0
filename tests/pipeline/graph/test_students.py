"""Who teaches, as edges of the graph."""

from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, Graph, Node, Quantity, ReportedModel
from pipeline.graph.starting_points import PREDICTION_BYTES
from pipeline.plan.planner import selected_keys
from stages.specs.axes.targets import TeacherTargets
from stages.specs.evaluation import EnsembleSpec
from stages.specs.layers import Attend, Outputs, Pick
from stages.specs.method import Method
from stages.specs.student import DistilSpec
from stages.specs.teacher import CalibrateSpec, ProbeSpec, TeachSpec

KEEPING = {"epochs": 3, "keep": "epochs"}
GENERATIONS = {
    "one": {"cut": {"of": "teacher", "layers": [1, 2, 3]}, "method": "vanilla-kd", "train": {"seed": 7, **KEEPING}},
    "two": {"cut": {"of": "teacher", "layers": [1, 2, 3]}, "method": "vanilla-kd", "taught_by": "one"},
}
LONG = {"epochs": 5, "learning_rate": 5.0e-3, "max_length": 16}
"""Every epoch of the teacher has one of the first phase."""


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def composed(assets: Path, /, **changes: object) -> Graph:
    """The tiny recipe's graph, whose teacher's epochs are kept."""
    kept = {"teacher": {"model": str(assets / "model"), "finetune": KEEPING}, "train": LONG}
    return graph_of(assets, assets.parent / "runs", **{**kept, **changes})[1]


def graph_with(assets: Path, taught_by: object, /, **changes: object) -> dict[str, Node]:
    """The nodes of a recipe whose method ``it`` is vanilla KD by ``taught_by``, with changes; ``also``: methods."""
    top = ("models", "student", "seeds", "store", "teacher", "task", "overrides", "train", "equal_steps")
    outer = {name: changes.pop(name) for name in top if name in changes}
    also = changes.pop("also", [])
    assert isinstance(also, list)
    method = [{"use": "vanilla-kd", "label": "it", "taught_by": taught_by, **changes}, *also]
    return nodes_by_name(composed(assets, method=method, **outer))


def edges(node: Node, prefix: str) -> dict[str, str]:
    """Input -> name of its node and folder there, for inputs whose names start with a prefix."""
    given = {name: edge for name, edge in node.inputs.items() if name.startswith(prefix) and isinstance(edge, Edge)}
    return {name: f"{edge.source.name}{edge.part and '/' + edge.part}" for name, edge in given.items()}


def it(found: dict[str, Node], seed: int = 0) -> Node:
    return found[f"distil/it/two/{seed}@tiny"]


def method_of(node: Node) -> Method:
    assert isinstance(node.spec, DistilSpec)
    return node.spec.method


def refusal(assets: Path, taught_by: object, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        graph_with(assets, taught_by, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- several, in order ------------------------------------------------------------------------------


def test_one_teacher_is_the_input_outputs_in_a_list_or_not(assets: Path) -> None:
    alone, listed = it(graph_with(assets, "teacher")), it(graph_with(assets, ["teacher"]))
    assert edges(alone, "outputs") == {"outputs": "teach@tiny"}
    assert alone.key == listed.key


def test_several_teachers_are_numbered_inputs_in_their_order(assets: Path) -> None:
    found = graph_with(assets, ["two", "teacher", "one"], models=GENERATIONS)
    expected = {"outputs/0": "teach/two@tiny", "outputs/1": "teach@tiny", "outputs/2": "teach/one@tiny"}
    assert edges(it(found), "outputs") == expected


def test_a_model_may_have_several_teachers_as_well(assets: Path) -> None:
    third = {"model": str(assets / "model"), "method": "vanilla-kd", "taught_by": ["one", "two"]}
    found = graph_with(assets, "three", models={**GENERATIONS, "three": third})
    expected = {"outputs/0": "teach/one@tiny", "outputs/1": "teach/two@tiny"}
    assert edges(found["distil/three@tiny"], "outputs") == expected
    assert edges(found["distil/two@tiny"], "outputs") == {"outputs": "teach/one@tiny"}


def test_a_teacher_with_another_tokenizer_has_its_own_corpus(assets: Path) -> None:
    other = write_plannable_model(assets / "other")
    (other / "tokenizer.json").write_text('{"vocab": {"a": 1}}', "utf-8")
    foreign = {"model": str(other), "method": "vanilla-kd"}
    found = graph_with(assets, ["teacher", "foreign"], models={"foreign": foreign})
    corpora = [edges(found[name], "corpus")["corpus"] for name in ("teach@tiny", "teach/foreign@tiny")]
    assert corpora[0] != corpora[1]
    assert edges(it(found), "corpus")["corpus"] == corpora[0]


# --- epochs -----------------------------------------------------------------------------------------


def test_an_epoch_as_teacher_is_a_folder_of_the_training(assets: Path) -> None:
    found = graph_with(assets, "teacher:2")
    assert edges(it(found), "outputs") == {"outputs": "teach/teacher:2@tiny"}
    assert edges(found["teach/teacher:2@tiny"], "model") == {"model": "finetune@tiny/epochs/02"}


def test_each_epoch_has_a_store_and_an_evaluation_of_its_own_key(assets: Path) -> None:
    found = graph_with(assets, ["teacher", "teacher:all"])
    for stage in ("teach", "evaluate"):
        alike = [node for node in found.values() if node.spec.stage == stage and "/two/" not in node.name]
        assert len({node.key for node in alike}) == len(alike) == 4
        specs = {node.spec for node in alike}
        assert len(specs) == 1


def test_the_final_model_of_a_training_is_identified_by_its_key(assets: Path) -> None:
    found = graph_with(assets, ["teacher", "teacher:2"])
    key = found["finetune@tiny"].key
    assert found["teach@tiny"].input_keys["model"] == key
    assert found["teach/teacher:2@tiny"].input_keys["model"] == f"{key}/epochs/02"


def test_all_epochs_teach_in_their_order(assets: Path) -> None:
    found = graph_with(assets, "teacher:all", training="progressive")
    assert list(edges(it(found), "outputs").values()) == [f"teach/teacher:{epoch}@tiny" for epoch in (1, 2, 3)]
    assert it(found).key == it(graph_with(assets, [f"teacher:{n}" for n in (1, 2, 3)], training="progressive")).key


def test_epoch_folders_have_two_digits_so_that_names_sort(assets: Path) -> None:
    finetune = {"model": str(assets / "model"), "finetune": {"epochs": 11, "keep": "epochs"}}
    found = graph_with(assets, ["teacher:9", "teacher:11"], teacher=finetune)
    models = [edges(found[f"teach/teacher:{epoch}@tiny"], "model")["model"] for epoch in (9, 11)]
    assert models == ["finetune@tiny/epochs/09", "finetune@tiny/epochs/11"]


def test_only_epochs_that_teach_are_evaluated(assets: Path) -> None:
    found = graph_with(assets, ["one:2", "teacher:3"], models=GENERATIONS)
    subjects = [node.subject for node in found.values() if node.role == "evaluate" and ":" in node.name]
    assert subjects == [ReportedModel("model:teacher:3", "model", 0), ReportedModel("model:one:2", "one", 7)]


def test_models_kept_for_every_epoch_count_in_the_size(assets: Path) -> None:
    once = nodes_by_name(composed(assets, teacher={"model": str(assets / "model"), "finetune": {"epochs": 3}}))[
        "finetune@tiny"
    ]
    kept = nodes_by_name(composed(assets))["finetune@tiny"]
    assert once.bytes.value is not None
    predictions = 30 * (PREDICTION_BYTES + 4 * 2)  # of the last epoch, whatever is kept
    assert kept.bytes == Quantity.at_most(4 * (once.bytes.value - predictions) + predictions)


def test_the_stage_teach_selects_the_store_of_every_model(assets: Path) -> None:
    graph = composed(assets, models=GENERATIONS, method={"use": "vanilla-kd", "taught_by": ["teacher:1", "two"]})
    keys = selected_keys(graph, "teach")
    stores = {"teach@tiny", "teach/one@tiny", "teach/two@tiny", "teach/teacher:1@tiny"}
    assert {node.name for node in graph.nodes if node.key in keys} == stores
    assert selected_keys(graph, "teach/teacher:1@tiny") == {nodes_by_name(graph)["teach/teacher:1@tiny"].key}


# --- ensembles --------------------------------------------------------------------------------------

BOTH = {**GENERATIONS, "both": {"members": ["one", "two"], "shares": [0.75, 0.25]}}


def test_an_ensemble_teaches_as_its_members_with_their_shares(assets: Path) -> None:
    ensemble = it(graph_with(assets, "both", models=BOTH))
    assert edges(ensemble, "outputs") == {"outputs/0": "teach/one@tiny", "outputs/1": "teach/two@tiny"}
    assert method_of(ensemble).targets == TeacherTargets(shares=(0.75, 0.25))
    written = it(graph_with(assets, ["one", "two"], models=GENERATIONS, targets={"shares": [0.75, 0.25]}))
    assert ensemble.key == written.key


def test_an_ensemble_is_scored_from_the_evaluations_of_its_members(assets: Path) -> None:
    found = graph_with(assets, "teacher", models=BOTH)
    node = found["ensemble/both@tiny"]
    assert (node.spec, node.role, node.subject) == (
        EnsembleSpec(shares=(0.75, 0.25)),
        "evaluate",
        ReportedModel("model:both", "both", 0),
    )
    assert edges(node, "") == {
        "corpus": "corpus@tiny",
        "members/0": "evaluate/one@tiny",
        "members/1": "evaluate/two@tiny",
    }


def test_members_may_be_the_teacher_and_epochs_which_are_then_evaluated(assets: Path) -> None:
    found = graph_with(assets, "teacher", models={"snapshots": {"members": ["teacher", "teacher:all"]}})
    members = [f"evaluate/{name}@tiny" for name in ("teacher", "teacher:1", "teacher:2", "teacher:3")]
    assert list(edges(found["ensemble/snapshots@tiny"], "members").values()) == members
    assert "teach/teacher:1@tiny" not in found, "no student learns from it"


# --- itself -----------------------------------------------------------------------------------------


def test_the_first_generation_is_the_student_of_no_kd(assets: Path) -> None:
    found = graph_with(assets, "itself", also=["no-kd"], seeds=[0, 5])
    for seed in (0, 5):
        assert edges(it(found, seed), "outputs") == {"outputs": f"teach/no-kd/two/{seed}@tiny"}
        speaker = edges(found[f"teach/no-kd/two/{seed}@tiny"], "model")
        assert speaker == {"model": f"distil/no-kd/two/{seed}@tiny/model"}


def test_without_no_kd_the_first_generation_has_the_same_key_and_its_own_name(assets: Path) -> None:
    alone, beside = graph_with(assets, "itself"), graph_with(assets, "itself", also=["no-kd"])
    first = alone["distil/it:itself/two/0@tiny"]
    assert first.key == beside["distil/no-kd/two/0@tiny"].key
    assert it(alone).key == it(beside).key
    assert alone["evaluate/it:itself/two/0@tiny"].subject == ReportedModel("model:it:itself", "two", 0)


def test_the_first_generation_has_the_training_settings_of_the_method(assets: Path) -> None:
    found = graph_with(assets, "itself", also=["no-kd"], train={"learning_rate": 1.0e-4})
    first = found["distil/no-kd/two/0@tiny"].spec
    other = graph_with(assets, "itself", also=[{"use": "no-kd", "train": {"learning_rate": 1.0e-3}}])
    own = other["distil/it:itself/two/0@tiny"].spec
    assert isinstance(first, DistilSpec) and isinstance(own, DistilSpec)
    assert (first.train.learning_rate, own.train.learning_rate) == (1.0e-4, 5.0e-3)
    assert own.method == Method()
    assert own.start == method_start(other)


def method_start(found: dict[str, Node]) -> object:
    spec = it(found).spec
    assert isinstance(spec, DistilSpec)
    return spec.start


def test_a_student_of_another_tasks_student_teaches_itself_from_the_same_start(tmp_path: Path) -> None:
    assets = write_plannable_assets(tmp_path / "assets", ("tiny", "other"))
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
    found = graph_with(
        assets, "itself", also=["no-kd"], task=tasks, overrides={"other": {"student": {"start": "tiny"}}}
    )
    student, first = found["distil/it/two/0@other"], found["distil/it:itself/two/0@other"]
    assert edges(student, "start") == edges(first, "start") == {"start": "distil/it/two/0@tiny/model"}
    assert edges(found["distil/no-kd/two/0@other"], "start") == {"start": "distil/no-kd/two/0@tiny/model"}


def test_itself_may_be_one_of_several_teachers(assets: Path) -> None:
    found = graph_with(assets, ["teacher", "itself"], also=["no-kd"])
    assert edges(it(found), "outputs") == {"outputs/0": "teach@tiny", "outputs/1": "teach/no-kd/two/0@tiny"}


# --- layers -----------------------------------------------------------------------------------------


def test_the_layers_of_the_teaching_model_are_matched(assets: Path) -> None:
    """The assistant has 3 layers, where the teacher has 4."""
    assert method_of(it(graph_with(assets, "one", models=GENERATIONS, structure="pick"))).structure == Pick(
        pairs=((1, 1),)
    )
    assert method_of(it(graph_with(assets, "teacher", structure="pick"))).structure == Pick(pairs=((1, 2),))
    structure = method_of(it(graph_with(assets, "itself", structure="attend"))).structure
    assert structure == Attend(groups=((1, 2), (1, 2)))


def test_layers_of_one_model_after_each_epoch_may_be_matched_in_turn(assets: Path) -> None:
    found = graph_with(assets, "teacher:all", training="progressive", structure="pick")
    assert method_of(it(found)).structure == Pick(pairs=((1, 2),))


def test_layers_of_models_that_differ_in_depth_are_refused(assets: Path) -> None:
    line = refusal(assets, ["one", "teacher"], models=GENERATIONS, training="progressive", structure="pick")
    assert line == (
        "task tiny, method it: structure: the same layers of each teacher are matched, but the teachers differ in "
        "depth (one 3, teacher 4); name teachers of one depth, or structure: none"
    )


def test_a_random_map_is_drawn_by_the_students_seed_and_written_out(assets: Path) -> None:
    found = graph_with(assets, "teacher", structure={"kind": "pick", "pairs": "random"}, seeds=list(range(8)))
    maps = [method_of(it(found, seed)).structure for seed in range(8)]
    assert len(set(maps)) > 1
    written = graph_with(assets, "teacher", structure=maps[3].model_dump(), seeds=list(range(8)))
    assert it(written, 3).key == it(found, 3).key


def test_a_shallow_model_stores_those_of_the_layers_that_it_has(assets: Path) -> None:
    found = graph_with(assets, "one", models=GENERATIONS, store={"layers": [0, 3, 4]}, structure={"kind": "relational"})
    store, teacher = found["teach/one@tiny"].spec, found["teach@tiny"].spec
    assert isinstance(store, TeachSpec) and isinstance(teacher, TeachSpec)
    assert (store.layers, teacher.layers) == ((0, 3), (0, 3, 4))


def test_a_layer_that_a_shallow_model_does_not_store_is_refused(assets: Path) -> None:
    line = refusal(assets, "one", models=GENERATIONS, store={"layers": [0, 4]}, structure="pick")
    assert line == (
        "task tiny, method it: structure: needs layers 1 of the teacher, which store.layers leaves out; add them there"
    )


# --- calibrated teachers ------------------------------------------------------------------------------

CALIBRATED = {"calibrated": True}


def test_a_calibrated_teachers_temperature_is_an_input_beside_the_same_store(assets: Path) -> None:
    plain = {"use": "vanilla-kd", "label": "plain"}
    found = graph_with(assets, "teacher", targets=CALIBRATED, also=[plain])
    assert edges(it(found), "calibration") == {"calibration": "calibrate@tiny"}
    assert edges(found["distil/plain/two/0@tiny"], "calibration") == {}
    stores = {edges(found[f"distil/{label}/two/0@tiny"], "outputs")["outputs"] for label in ("it", "plain")}
    assert stores == {"teach@tiny"}, "one store serves both"
    node = found["calibrate@tiny"]
    assert (node.spec, node.role, node.rows) == (CalibrateSpec(), "teach", Quantity.exact(9))
    assert edges(node, "") == {"corpus": "corpus@tiny", "model": "finetune@tiny/model"}


def test_several_calibrated_teachers_have_numbered_calibrations_which_methods_share(assets: Path) -> None:
    again = {"use": "vanilla-kd", "label": "again", "taught_by": "one", "targets": CALIBRATED}
    found = graph_with(assets, "both", models=BOTH, targets=CALIBRATED, also=[again])
    expected = {"calibration/0": "calibrate/one@tiny", "calibration/1": "calibrate/two@tiny"}
    assert edges(it(found), "calibration") == expected, "each member of an ensemble by itself"
    assert edges(found["distil/again/two/0@tiny"], "calibration") == {"calibration": "calibrate/one@tiny"}
    assert sum(name.startswith("calibrate") for name in found) == 2


def test_models_epochs_and_first_generations_are_calibrated_as_the_teacher_is(assets: Path) -> None:
    one = {**GENERATIONS["one"], "method": {"use": "vanilla-kd", "targets": CALIBRATED}}
    found = graph_with(assets, ["teacher:2", "itself", "one"], models={"one": one}, targets=CALIBRATED, also=["no-kd"])
    calibrated = ["calibrate/teacher:2@tiny", "calibrate/no-kd/two/0@tiny", "calibrate/one@tiny"]
    assert list(edges(it(found), "calibration").values()) == calibrated
    assert edges(found["distil/one@tiny"], "calibration") == {"calibration": "calibrate@tiny"}
    assert edges(found["calibrate/teacher:2@tiny"], "model") == {"model": "finetune@tiny/epochs/02"}


def test_the_teacher_of_a_regression_is_not_calibrated_and_the_student_is_the_same(assets: Path) -> None:
    task = {"name": "tiny", "text": "sentence", "regression": True}
    found = graph_with(assets, "teacher", task=task, targets=CALIBRATED)
    assert not any(name.startswith("calibrate") for name in found)
    assert it(found).key == it(graph_with(assets, "teacher", task=task)).key


def test_a_teacher_that_is_given_fine_tuned_is_calibrated_with_a_warning(assets: Path) -> None:
    method = {"use": "vanilla-kd", "targets": CALIBRATED}
    student = {"label": "two", "model": str(assets / "model")}
    shape = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    given = write_plannable_model(assets / "given", **shape)
    teacher = {"model": str(given)}
    graph = composed(assets, teacher=teacher, student=student, method=method)
    (line,) = [line for line in graph.warnings if "calibrated" in line]
    assert line == (
        "task tiny: targets.calibrated: true, but teacher.model is given fine-tuned; if it was trained on the rows "
        "that are held out here, its temperature comes out too low"
    )
    assert not any("calibrated" in line for line in composed(assets, method=method).warnings)


# --- probes -----------------------------------------------------------------------------------------


def test_the_outputs_of_probes_are_an_input_beside_the_store(assets: Path) -> None:
    found = graph_with(assets, "teacher", structure="outputs")
    assert edges(it(found), "outputs") == {"outputs": "teach@tiny"}
    assert edges(it(found), "probes") == {"probes": "probe@tiny"}
    node = found["probe@tiny"]
    assert (node.spec, node.role) == (ProbeSpec(layers=(1, 2, 3, 4)), "teach")
    assert edges(node, "") == {"corpus": "corpus@tiny", "outputs": "teach@tiny"}
    assert method_of(it(found)).structure == Outputs(groups=((1, 2, 3, 4),) * 2)


def test_a_probe_is_shared_by_methods_that_need_the_same_layers_of_the_same_model(assets: Path) -> None:
    even = {"use": "vanilla-kd", "label": "even", "structure": {"kind": "outputs", "groups": "even"}}
    first = {"use": "vanilla-kd", "label": "first", "structure": {"kind": "outputs", "groups": [[1], [2]]}}
    other = {"use": "vanilla-kd", "label": "other", "structure": "outputs", "taught_by": "one"}
    found = graph_with(assets, "teacher", structure="outputs", also=[even, first, other], models=GENERATIONS)
    probes = {
        label: edges(found[f"distil/{label}/two/0@tiny"], "probes")["probes"] for label in ("even", "first", "other")
    }
    assert probes == {"even": "probe@tiny", "first": "probe:1+2@tiny", "other": "probe/one@tiny"}
    assert found["probe:1+2@tiny"].spec == ProbeSpec(layers=(1, 2))


def test_a_probe_takes_the_pooling_that_the_method_names(assets: Path) -> None:
    first = {"kind": "outputs", "pooling": "cls"}
    found = graph_with(assets, "teacher", structure=first, store={"pooling": "both"})
    assert found[edges(it(found), "probes")["probes"]].spec == ProbeSpec(layers=(1, 2, 3, 4), pooling="cls")
    assert refusal(assets, "teacher", structure=first).endswith("store.pooling is mean; make them the same")
