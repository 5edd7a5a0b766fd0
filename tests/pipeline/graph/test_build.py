import json
import shutil
from pathlib import Path

import pytest
from project import (
    as_storage,
    graph_of,
    nodes_by_name,
    tiny_recipe,
    write_plannable_assets,
    write_plannable_model,
)

from pipeline.errors import RequestError
from pipeline.graph.build import build_graph
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins
from pipeline.graph.nodes import Edge, ExternalInput, Graph, Node, Quantity
from pipeline.recipe import parse
from stages.outputs.sizes import Extent
from stages.specs.corpus import CorpusSpec, Hub
from stages.specs.evaluation import EvaluateSpec
from stages.specs.layers import Concatenate, Pick, Structure
from stages.specs.student import Cut, DistilSpec, Fresh, Pretrained
from stages.specs.teacher import TeachSpec

TUNED = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "good", "1": "bad"}}
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def composed(assets: Path, /, **changes: object) -> Graph:
    return graph_of(assets, assets.parent / "runs", **changes)[1]


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        composed(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def source(node: Node, name: str) -> str:
    """The name of the node behind this input."""
    given = node.inputs[name]
    return given.source.name if isinstance(given, Edge) else given.about


def distil_spec(node: Node) -> DistilSpec:
    assert isinstance(node.spec, DistilSpec)
    return node.spec


# --- how students start ---------------------------------------------------------------------------


def test_a_student_of_the_teachers_layers_starts_from_the_fine_tuned_teacher(assets: Path) -> None:
    node = nodes_by_name(composed(assets))["distil/no-kd/two/0@tiny"]
    assert source(node, "start") == "finetune@tiny"
    given = node.inputs["start"]
    assert isinstance(given, Edge)
    assert given.part == "model"
    assert distil_spec(node).start == Cut(layers=(0, 2))


def test_a_student_may_start_from_a_model_of_its_own_or_from_random_weights(assets: Path) -> None:
    write_plannable_model(assets / "small", num_hidden_layers=2)
    students = [
        {"label": "own", "model": str(assets / "small")},
        {"label": "fresh", "config": {"model": str(assets / "small"), "num_hidden_layers": 1, "hidden_size": 24}},
    ]
    found = nodes_by_name(composed(assets, student=students))
    own, fresh = found["distil/no-kd/own/0@tiny"], found["distil/no-kd/fresh/0@tiny"]
    assert source(own, "start") == source(fresh, "start") == str(assets / "small")
    assert distil_spec(own).start == Pretrained()
    assert distil_spec(fresh).start == Fresh(changes=(("hidden_size", 24), ("num_hidden_layers", 1)))


def test_a_student_may_be_cut_out_of_the_teacher_before_its_fine_tuning(assets: Path) -> None:
    students = [{"label": of, "cut": {"of": of, "layers": [1, 3]}} for of in ("teacher", "base")]
    found = nodes_by_name(composed(assets, student=[*students, {"cut": {"of": "base", "layers": [4]}}]))
    assert source(found["distil/no-kd/teacher/0@tiny"], "start") == "finetune@tiny"
    assert source(found["distil/no-kd/base/0@tiny"], "start") == str(assets / "model")
    assert distil_spec(found["distil/no-kd/base/0@tiny"]).start == Cut(layers=(0, 2))
    assert distil_spec(found["distil/no-kd/base-layers-4/0@tiny"]).start == Cut(layers=(3,))


def test_a_teacher_that_is_given_fine_tuned_has_no_base_to_cut(assets: Path) -> None:
    model = write_plannable_model(assets / "tuned", **TUNED)
    with pytest.raises(RequestError) as caught:
        composed(assets, teacher={"model": str(model)}, student={"cut": {"of": "base", "layers": [1]}})
    assert str(caught.value) == (
        "student.cut.of: base, but the teacher is given fine-tuned, without teacher.finetune; write of: teacher"
    )


def test_a_student_may_start_from_that_of_another_task(tmp_path: Path) -> None:
    assets = write_plannable_assets(tmp_path / "two", ("tiny", "other"))
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
    found = nodes_by_name(composed(assets, task=tasks, overrides={"other": {"student": {"start": "tiny"}}}))
    node = found["distil/vanilla-kd/two/0@other"]
    assert source(node, "start") == "distil/vanilla-kd/two/0@tiny"
    assert distil_spec(node).start == Pretrained()
    assert source(node, "outputs") == "teach@other"


def test_each_student_has_its_seed(assets: Path) -> None:
    found = nodes_by_name(composed(assets, seeds=[0, 5]))
    assert [distil_spec(found[f"distil/no-kd/two/{seed}@tiny"]).train.seed for seed in (0, 5)] == [0, 5]


# --- a teacher that is fine-tuned already ---------------------------------------------------------


def test_the_outputs_of_a_fine_tuned_teacher_are_reordered_to_the_tasks_labels(assets: Path) -> None:
    model = write_plannable_model(assets / "tuned", **TUNED)
    found = nodes_by_name(composed(assets, teacher={"model": str(model)}))
    assert "finetune@tiny" not in found
    teach, evaluate = found["teach@tiny"].spec, found["evaluate/teacher@tiny"].spec
    assert isinstance(teach, TeachSpec)
    assert isinstance(evaluate, EvaluateSpec)
    assert teach.label_order == evaluate.label_order == (1, 0)
    assert distil_spec(found["distil/no-kd/two/0@tiny"]).start == Cut(layers=(0, 2), label_order=(1, 0))
    student = found["evaluate/no-kd/two/0@tiny"].spec
    assert isinstance(student, EvaluateSpec)
    assert student.label_order is None


def test_labels_in_the_recipe_override_those_of_the_model(assets: Path) -> None:
    model = write_plannable_model(assets / "tuned", **TUNED)
    spec = nodes_by_name(composed(assets, teacher={"model": str(model), "labels": ["bad", "good"]}))["teach@tiny"].spec
    assert isinstance(spec, TeachSpec)
    assert spec.label_order is None


def test_a_head_without_label_names_is_refused(assets: Path) -> None:
    model = write_plannable_model(assets / "tuned", architectures=TUNED["architectures"])
    assert refusal(assets, teacher={"model": str(model)}) == (
        "task tiny: teacher.labels: the teacher's outputs are LABEL_0, LABEL_1, the labels of tiny are bad, good; "
        "list the labels in the order of the outputs, for example teacher.labels: [bad, good]"
    )


# --- layers -----------------------------------------------------------------------------------------


def structure(assets: Path, use: object, /, **changes: object) -> Structure:
    """The structure of the student of ``use``, which has layers 0 and 2 of a teacher of 4."""
    use = use if isinstance(use, dict) else {"use": use}
    found = nodes_by_name(composed(assets, method=[{"label": "it", **use}], **changes))
    assert source(found["distil/it/two/0@tiny"], "outputs") == "teach@tiny"
    return distil_spec(found["distil/it/two/0@tiny"]).method.structure


def test_an_even_map_is_written_out_for_the_models_depths(assets: Path) -> None:
    pkd, ckd = structure(assets, "pkd"), structure(assets, "ckd")
    assert isinstance(pkd, Pick) and pkd.pairs == ((1, 2),)
    assert isinstance(ckd, Concatenate) and ckd.groups == ((1, 2), (3, 4))


def test_a_map_that_is_written_out_gives_the_same_student_as_the_even_one(assets: Path) -> None:
    written = {"use": "ckd", "structure": {"groups": [[1, 2], [3, 4]]}}
    assert structure(assets, written) == structure(assets, "ckd")


def test_a_method_that_only_matches_layers_has_a_teacher(assets: Path) -> None:
    alone = {"use": "no-kd", "structure": {"kind": "pick", "pairs": [[2, 4]]}}
    assert structure(assets, alone) == Pick(pairs=((2, 4),))


@pytest.mark.parametrize(
    ("use", "changes", "line"),
    [
        (
            {"use": "ckd"},
            {"store": {"layers": [0, 1, 3]}},
            "structure: needs layers 2, 4 of the teacher, which store.layers leaves out; add them there",
        ),
        (
            {"use": "pkd"},
            {"store": {"pooling": "cls"}},
            "structure.pooling: mean, but store.pooling is cls; make them the same",
        ),
        (
            {"use": "pkd", "structure": {"pairs": [[1, 5]]}},
            {},
            "structure: the teacher has no layer 5; it has 0 (embeddings) to 4",
        ),
        (
            {"use": "pkd", "structure": {"pairs": [[3, 4]]}},
            {},
            "structure: the student has no layer 3; it has 0 (embeddings) to 2",
        ),
        (
            {"use": "ckd", "structure": {"groups": [[1], [2], [3]]}},
            {},
            "structure: the student has no layer 3; it has 0 (embeddings) to 2",
        ),
        (
            {"use": "pkd"},
            {"student": {"label": "two", "cut": {"of": "teacher", "layers": [1]}}},
            "structure.pairs: even leaves out the student's last layer, and this student has no other; give pairs",
        ),
    ],
)
def test_layers_that_cannot_be_matched_are_refused(
    use: dict[str, object], changes: dict[str, object], line: str, assets: Path
) -> None:
    result = refusal(assets, method=[{"label": "it", **use}], **changes)
    assert result == f"task tiny, method it: {line}"


def test_a_student_deeper_than_its_teacher_has_no_even_map(assets: Path) -> None:
    write_plannable_model(assets / "deep", num_hidden_layers=8)
    result = refusal(assets, method="ckd", student={"label": "two", "model": str(assets / "deep")})
    assert result == (
        "task tiny, method ckd: structure.groups: even cannot divide 4 teacher layers among 8 student layers; "
        "name the layers instead"
    )


# --- stores ---------------------------------------------------------------------------------------


def test_the_store_does_not_depend_on_the_methods(assets: Path) -> None:
    store = {"pooling": "cls", "layers": [4, 0], "precision": "float32"}
    node = nodes_by_name(composed(assets, store=store))["teach@tiny"]
    assert node.spec == TeachSpec(pooling="cls", layers=(0, 4), precision="float32")
    assert node.extent == Extent(layers=2, width=32, outputs=2, heads=12, length=16)


def test_the_store_of_a_shallow_assistant_has_the_layers_it_has(assets: Path) -> None:
    found = nodes_by_name(
        composed(
            assets,
            models={"assistant": {"cut": {"of": "teacher", "layers": [1, 2]}, "method": "vanilla-kd"}},
            method={"use": "vanilla-kd", "taught_by": "assistant"},
        )
    )
    assert found["teach/assistant@tiny"].extent == Extent(layers=3, width=32, outputs=2, heads=12, length=16)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"student": {"label": "two", "cut": {"of": "teacher", "layers": [1, 5]}}},
            "student two: cut.layers: [1, 5], but the teacher has no layer 5; its layers are 1 to 4",
        ),
        (
            {"store": {"layers": [0, 5]}},
            "task tiny: store.layers: the teacher has no layer 5; it has 0 (embeddings) to 4",
        ),
    ],
)
def test_a_layer_that_the_teacher_does_not_have_is_refused(assets: Path, changes: dict[str, object], line: str) -> None:
    assert refusal(assets, **changes) == line


def tuned_from(model: Path) -> dict[str, object]:
    return {"model": str(model), "finetune": {"epochs": 1}}


def test_a_store_of_attention_holds_scores_under_a_name_of_its_own(assets: Path) -> None:
    write_plannable_model(assets / "heads", num_attention_heads=2)
    found = nodes_by_name(composed(assets, teacher=tuned_from(assets / "heads"), store={"attention": [2, 4]}))
    spec = found["attention@tiny"].spec
    assert isinstance(spec, TeachSpec) and (spec.part, spec.layers) == ("scores", (2, 4))
    assert found["attention@tiny"].extent == Extent(layers=2, width=32, outputs=2, heads=2, length=16)


def test_a_store_of_attention_of_a_model_that_gives_no_scores_is_refused(assets: Path) -> None:
    write_plannable_model(assets / "other", model_type="modernbert", num_attention_heads=2)
    assert refusal(assets, teacher=tuned_from(assets / "other"), store={"attention": "all"}) == (
        "task tiny: store.attention: needs attention scores before the softmax, which modernbert does not give for all "
        "tokens of a row; leave it out, or use another model, such as a BERT or a RoBERTa"
    )


# --- models from outside --------------------------------------------------------------------------


def test_one_model_under_several_names_has_one_identity(assets: Path) -> None:
    found = nodes_by_name(composed(assets, student={"label": "own", "model": str(assets / "model")}))
    starts = [found[name].inputs["start"] for name in ("finetune@tiny", "distil/no-kd/own/0@tiny")]
    assert starts[0] is starts[1]
    assert isinstance(starts[0], ExternalInput)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "a/b/c"])
def test_a_path_without_a_model_is_refused_without_a_request_to_the_hub(assets: Path, name: str) -> None:
    line = refusal(assets, teacher={"model": name, "finetune": {}})
    assert (
        line == f"teacher.model: {name} has no config.json; give a model directory, or the name of a model on the hub"
    )


@pytest.mark.parametrize("text", ["", "{", '["bert"]', '"bert"', "\udcff"])
def test_a_damaged_configuration_is_refused(assets: Path, text: str) -> None:
    path = assets / "model" / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    line = refusal(assets)
    assert line.startswith(f"{path}: not a configuration (")
    assert line.endswith("); save the model with save_pretrained")


def test_a_configuration_without_a_depth_is_refused(assets: Path) -> None:
    (assets / "model" / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}', "utf-8")
    assert refusal(assets) == (
        f"teacher.model: {assets / 'model'}: config.json names none of num_hidden_layers, n_layers, num_layers; "
        "give an encoder's own configuration"
    )


# --- data -----------------------------------------------------------------------------------------


@pytest.fixture
def hub_folder(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which data sets lie as on the hub, pinned in the storage; ``datasets`` reads such folders first."""
    import datasets

    monkeypatch.chdir(assets)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(assets / "cache"))
    known = assets.parent / "runs" / ".identity"
    known.mkdir(parents=True)
    (known / "pins.json").write_text(json.dumps({"dataset:SetFit/sst5@main": COMMIT}), "utf-8")
    return assets / "SetFit" / "sst5"


def write_hub_splits(folder: Path, label: int = 4) -> None:
    folder.mkdir(parents=True)
    for split, rows in (("train", 40), ("validation", 10)):
        lines = [json.dumps({"text": f"{split} {row}", "label": row % (label + 1)}) for row in range(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), "utf-8")


def test_a_hub_task_is_at_the_commit_pinned_in_the_storage_and_its_rows_are_known(
    assets: Path, hub_folder: Path
) -> None:
    write_hub_splits(hub_folder)
    node = nodes_by_name(composed(assets, task="sst5", data={"source": "hub"}))["corpus@sst5"]
    assert isinstance(node.spec, CorpusSpec)
    assert node.spec.source == Hub(repository="SetFit/sst5", revision=COMMIT)
    assert node.rows == Quantity.exact(50)
    assert set(node.inputs) == {"tokenizer"}


def test_bad_rows_of_a_hub_set_are_refused_while_planning(assets: Path, hub_folder: Path) -> None:
    write_hub_splits(hub_folder, label=6)
    line = refusal(assets, task="sst5", data={"source": "hub"})
    assert line.startswith("data.source: SetFit/sst5 train: 10 of 40 rows cannot be used: row 6, column label: 5 is no")


OWN = {"name": "mine", "text": "body", "label": "grade", "labels": ["bad", "good"]}


@pytest.fixture
def own_set(assets: Path, hub_folder: Path) -> Path:
    """The data set ``org/mine`` with the splits ``train`` and ``dev``, pinned in the storage."""
    pins = assets.parent / "runs" / ".identity" / "pins.json"
    pins.write_text(json.dumps({"dataset:org/mine@main": COMMIT}), "utf-8")
    folder = assets / "org" / "mine"
    folder.mkdir(parents=True)
    for split, rows in (("train", 40), ("dev", 10)):
        lines = [json.dumps({"body": f"{split} {row}", "grade": ["bad", "good"][row % 2]}) for row in range(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), "utf-8")
    files = "".join(f"  - {{split: {split}, path: {split}.jsonl}}\n" for split in ("train", "dev"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n", "utf-8")
    return folder


def test_a_task_of_any_data_set_of_the_hub_is_at_its_pinned_commit_and_its_rows_are_known(
    assets: Path, own_set: Path
) -> None:
    hub = {"repository": "org/mine", "splits": {"train": "train", "validation": "dev"}}
    node = nodes_by_name(composed(assets, task={**OWN, "hub": hub}))["corpus@mine"]
    assert isinstance(node.spec, CorpusSpec)
    assert node.spec.source == Hub(repository="org/mine", revision=COMMIT)
    assert (node.spec.task.text, node.spec.task.label, node.spec.task.dev) == (("body",), "grade", ("dev",))
    assert node.rows == Quantity.exact(50)
    assert set(node.inputs) == {"tokenizer"}


def test_a_split_that_a_data_set_of_the_hub_does_not_have_is_refused_with_those_that_it_has(
    assets: Path, own_set: Path
) -> None:
    splits = {"train": "train", "validation": "valid"}
    line = refusal(assets, task={**OWN, "hub": {"repository": "org/mine", "splits": splits}})
    assert line.startswith("task.hub: org/mine has no split valid for mine; it has ")


def test_a_data_set_of_the_hub_without_network_is_refused_with_a_remedy(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = refusal(assets, task={**OWN, "hub": "org/other"})
    assert line.startswith("task.hub: org/other cannot be found on the hub (") and line.endswith("); give files")


def test_generated_rows_need_no_files(assets: Path) -> None:
    node = nodes_by_name(composed(assets, task="reviews", data={"source": "generated", "generated": {"train": 50}}))[
        "corpus@reviews"
    ]
    assert node.rows == Quantity.exact(50 + 1000 + 1000)
    assert set(node.inputs) == {"tokenizer"}


def test_the_rows_of_a_dev_split_that_is_cut_off_train_are_known_before(assets: Path) -> None:
    (assets / "data" / "tiny" / "validation.parquet").rename(assets / "test.parquet")
    files = {"train": str(assets / "data" / "tiny" / "train.parquet"), "test": str(assets / "test.parquet")}
    task = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"], "files": files}
    found = nodes_by_name(composed(assets, task=task))
    assert found["corpus@tiny"].rows == Quantity.exact(120)
    # A tenth of the 90 rows of train is cut off, then 8 of the 81 others are held out.
    assert found["evaluate/teacher@tiny"].rows == Quantity.exact(9 + 30)
    assert found["finetune@tiny"].rows == Quantity.exact(73)


def test_of_a_small_train_a_quarter_is_held_out_and_its_key_is_found_without_reading_the_data_again(
    assets: Path,
) -> None:
    """Also where the survey of the data is lost, as the number of rows is kept with the digests."""
    recipe = parse(tiny_recipe(assets, data={"source": str(assets / "data")}))
    file, pins = assets.parent / ".identity" / "digests.json", Pins.load(as_storage(assets.parent), refresh=False)
    file.parent.mkdir()
    first = Digests.load(file)
    corpus = nodes_by_name(build_graph(recipe, first, pins))["corpus@tiny"]
    assert isinstance(corpus.spec, CorpusSpec) and corpus.spec.holdout_min_rows == 300
    assert corpus.splits is not None and (corpus.splits.trained, corpus.splits.held_out) == (68, 22)
    first.save()
    shutil.rmtree(file.parent / "surveys")
    again = nodes_by_name(build_graph(recipe, Digests.load(file), pins, reads_data=False))["corpus@tiny"]
    assert again.splits is None and again.key == corpus.key
