"""BiLSTM students in a graph: what they start from, how large they are, and what is refused."""

from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model, write_weights

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, ExternalInput, Graph, ModelKind, Node
from pipeline.graph.starting_points import EXTRA_BYTES, PREDICTION_BYTES
from pipeline.methods import METHODS
from stages.models.bilstm import BILSTM, bilstm_parameters
from stages.specs.axes.structures import NoLayers
from stages.specs.student import Bilstm, DistilSpec, Start, describe_start
from stages.specs.teacher import TeachSpec

PAIRS = {"name": "tiny", "text": ["sentence", "second"], "labels": ["bad", "good"]}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def composed(assets: Path, /, **changes: object) -> Graph:
    return graph_of(assets, assets.parent / "runs", **{"student": {"bilstm": {}}, "method": "no-kd", **changes})[1]


def student(assets: Path, label: str = "bilstm", /, **changes: object) -> Node:
    """The training of a student by ``no-kd``."""
    return nodes_by_name(composed(assets, **changes))[f"distil/no-kd/{label}/0@tiny"]


def start_of(node: Node) -> Start:
    assert isinstance(node.spec, DistilSpec)
    return node.spec.start


def source(node: Node) -> str:
    given = node.inputs["start"]
    return f"{given.source.name}/{given.part}" if isinstance(given, Edge) else str(given.path)


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        composed(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_bilstm_starts_with_the_word_embeddings_that_its_recipe_names(assets: Path) -> None:
    blocks = {name: {"embeddings": name} for name in ("teacher", "base", "random")}
    blocks["narrow"] = {"embeddings": "teacher", "width": 16, "hidden": 8, "layers": 2, "fc": 9, "dropout": 0.5}
    students = [{"label": label, "bilstm": block} for label, block in blocks.items()]
    found = {label: student(assets, label, student=students) for label in blocks}
    base = str(assets / "model")
    assert {label: source(node) for label, node in found.items()} == {
        "teacher": "finetune@tiny/model",
        "base": base,
        "random": base,
        "narrow": "finetune@tiny/model",
    }
    assert start_of(found["teacher"]) == start_of(found["base"]) == Bilstm()
    assert start_of(found["random"]) == Bilstm(embeddings="random", width=300)
    assert start_of(found["narrow"]) == Bilstm(width=16, hidden=8, layers=2, fc=9, dropout=0.5)
    assert describe_start(start_of(found["base"])).startswith("random, a BiLSTM with the word embeddings of")
    assert all(node.model_kind == ModelKind(BILSTM, None) for node in found.values())


def test_the_label_of_a_bilstm_is_bilstm(assets: Path) -> None:
    assert start_of(student(assets, student={"bilstm": {"hidden": 4}})) == Bilstm(hidden=4)


def test_the_plan_bounds_the_size_of_a_bilstm_by_its_parameters(assets: Path) -> None:
    """The plannable model has a vocabulary of BERT's size, and word embeddings of width 32."""
    for task, pair in ((None, False), (PAIRS, True)):
        changes = {} if task is None else {"task": task}
        node = student(assets, student={"bilstm": {"hidden": 20}}, **changes)
        parameters = bilstm_parameters(Bilstm(hidden=20), 30522, 32, 2, pair)
        assert node.bytes.value == 4 * parameters + EXTRA_BYTES + 30 * (PREDICTION_BYTES + 8)


def test_embeddings_that_are_narrower_than_the_teachers_layers_are_counted_as_the_weights_have_them(
    tmp_path: Path,
) -> None:
    assets = write_plannable_assets(tmp_path / "narrow")
    narrow = write_plannable_model(assets / "narrow", vocab_size=50, hidden_size=64, num_attention_heads=2)
    shapes = {f"encoder.layers.{layer}.weight": (1,) for layer in range(4)}
    write_weights(narrow / "model.safetensors", {**shapes, "embeddings.word_embeddings.weight": (50, 64)})
    node = student(assets, teacher={"model": str(narrow), "finetune": {}})
    assert node.bytes.value == 4 * bilstm_parameters(Bilstm(), 50, 64, 2, False) + EXTRA_BYTES + 30 * 56


def test_the_embeddings_of_a_teacher_change_the_key_and_random_ones_leave_out_its_fine_tuning(assets: Path) -> None:
    keys = {}
    for name in ("teacher", "random"):
        for rate in (1e-2, 2e-2):
            teacher = {"model": str(assets / "model"), "finetune": {"learning_rate": rate}}
            keys[name, rate] = student(assets, student={"bilstm": {"embeddings": name}}, teacher=teacher).key
    assert keys["teacher", 1e-2] != keys["teacher", 2e-2]
    assert keys["random", 1e-2] == keys["random", 2e-2]


def test_the_outputs_of_a_bilstm_that_teaches_are_its_logits_alone(assets: Path) -> None:
    found = nodes_by_name(
        composed(
            assets,
            method=[
                {"use": "vanilla-kd", "label": "again", "taught_by": "itself"},
                {"use": "vanilla-kd", "label": "by", "taught_by": "assistant"},
            ],
            models={"assistant": {"bilstm": {"hidden": 300}, "method": "no-kd"}},
        )
    )
    for name in ("teach/again:itself/bilstm/0@tiny", "teach/assistant@tiny"):
        spec, extent = found[name].spec, found[name].extent
        assert isinstance(spec, TeachSpec) and spec.layers == ()
        assert extent is not None and extent.layers == 0
    teacher = nodes_by_name(composed(assets, method="vanilla-kd"))["teach@tiny"].spec
    assert isinstance(teacher, TeachSpec) and teacher.layers == "all"


def test_a_bilstm_may_go_on_from_that_of_another_task(tmp_path: Path) -> None:
    assets = write_plannable_assets(tmp_path / "two", ("tiny", "other"))
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
    found = nodes_by_name(composed(assets, task=tasks, overrides={"other": {"student": {"start": "tiny"}}}))
    node = found["distil/no-kd/bilstm/0@other"]
    assert source(node) == "distil/no-kd/bilstm/0@tiny/model"
    assert node.model_kind == ModelKind(BILSTM, None)


def test_every_method_that_matches_no_layers_may_train_a_bilstm(assets: Path) -> None:
    taught_by = {
        "multi-teacher": ["teacher", "assistant"],
        "takd": "assistant",
        "reverse-kd": "assistant",
        "pro-kd": ["teacher:1", "teacher:2"],
        "defective-kd": "teacher:1",
    }
    methods = {named.name: named.method for named in METHODS}
    names = [name for name, one in methods.items() if isinstance(one.structure, NoLayers) and not one.needs_contrast]
    graph = composed(
        assets,
        method=[{"use": name, **({"taught_by": taught_by[name]} if name in taught_by else {})} for name in names],
        teacher={"model": str(assets / "model"), "finetune": {"epochs": 2, "keep": "epochs"}},
        models={"assistant": {"bilstm": {"hidden": 300}, "method": "no-kd"}},
        bank={"generated": {}, "encoder": str(assets / "model")},
        train={"epochs": 6, "max_length": 16},
    )
    students = [node for node in graph.wanted if isinstance(node.spec, DistilSpec) and node.subject]
    assert len(students) == len(names) > 12
    assert all(node.model_kind == ModelKind(BILSTM, None) for node in students)


# --- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [named.name for named in METHODS if not isinstance(named.method.structure, NoLayers)]
)
def test_a_method_that_matches_layers_is_refused_for_a_bilstm(assets: Path, method: str) -> None:
    line = refusal(assets, method=method)
    assert line.startswith(f"task tiny, method {method}: structure: ")
    assert line.endswith(
        "but the student bilstm is a BiLSTM, which has no layers to match; use structure: none, or a student with "
        "model, cut or config"
    )


def test_layers_of_a_bilstm_that_teaches_cannot_be_followed(assets: Path) -> None:
    line = refusal(
        assets,
        student={"label": "two", "cut": {"of": "teacher", "layers": [1, 3]}},
        method={"use": "pkd", "taught_by": "assistant"},
        models={"assistant": {"bilstm": {}, "method": "no-kd"}},
    )
    assert line == (
        "task tiny, method pkd: structure: pick, but assistant is a BiLSTM, which has no layers to follow; use "
        "structure: none, or name another teacher"
    )


def test_a_teacher_that_is_given_fine_tuned_has_no_base_whose_embeddings_could_be_copied(assets: Path) -> None:
    tuned = write_plannable_model(
        assets / "tuned",
        architectures=["BertForSequenceClassification"],
        id2label={"0": "bad", "1": "good"},
    )
    teacher = {"model": str(tuned)}
    assert refusal(assets, teacher=teacher, student={"bilstm": {"embeddings": "base"}}) == (
        "student.bilstm.embeddings: base, but the teacher is given fine-tuned, without teacher.finetune; write "
        "embeddings: teacher"
    )
    assert source(student(assets, teacher=teacher)) == str(tuned)


def test_a_teacher_without_a_tokenizer_or_without_a_vocabulary_is_refused(assets: Path) -> None:
    (assets / "model" / "tokenizer.json").unlink()
    assert refusal(assets).endswith("no tokenizer here; save one with tokenizer.save_pretrained")
    canine = write_plannable_model(assets / "canine", model_type="canine")
    line = refusal(assets, teacher={"model": str(canine), "finetune": {}})
    assert line == (
        f"student bilstm: bilstm: {canine} (canine) has no vocabulary of tokens with an embedding each; use a teacher "
        "that has one, or another student"
    )


def test_a_tokenizer_that_does_not_separate_the_texts_of_a_pair_is_refused_for_pairs_alone(assets: Path) -> None:
    (assets / "model" / "tokenizer.json").write_text('{"model": {"vocab": {}}, "post_processor": null}', "utf-8")
    assert isinstance(student(assets).inputs["corpus"], Edge)
    assert refusal(assets, task=PAIRS) == (
        f"student bilstm: bilstm: the tokenizer of {assets / 'model'} puts no token between the texts of a pair, so "
        "that those of tiny cannot be read one by one; use another teacher, or another student"
    )


def test_a_bilstm_that_was_saved_is_refused_as_the_model_of_a_recipe(assets: Path) -> None:
    saved = write_plannable_model(assets / "saved", model_type=BILSTM, num_hidden_layers=0)
    write_weights(saved / "model.bilstm.safetensors", {"classifier.weight": (2,)})
    (saved / "model.safetensors").unlink()
    for changes in ({"student": {"model": str(saved)}}, {"teacher": {"model": str(saved), "finetune": {}}}):
        line = refusal(assets, **changes)
        assert f"{saved}: is a BiLSTM that Stillhouse trained, from which no model of a recipe can start; name " in line


def test_the_tokenizer_of_a_bilstm_is_the_teachers(assets: Path) -> None:
    corpus = student(assets).inputs["corpus"]
    assert isinstance(corpus, Edge)
    tokenizer = corpus.source.inputs["tokenizer"]
    assert isinstance(tokenizer, ExternalInput) and tokenizer.path == assets / "model"
