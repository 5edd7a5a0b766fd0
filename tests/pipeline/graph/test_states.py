"""General distillation in the graph: what all models of a bank share, what starts from them, and what is refused."""

import json
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, Graph, HeldModels, Node
from pipeline.plan.extrapolate import task_corpus
from pipeline.plan.measurements import trained_origin
from stages.specs.layers import Attend, Pick
from stages.specs.pretraining import PretrainSpec, TextsSpec
from stages.specs.student import Cut, DistilSpec, Pretrained
from stages.specs.teacher import TeachSpec

TASKS = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
PAIRS = [[0, 0], [1, 2], [2, 4]]


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    (tmp_path / "bank.txt").write_text("".join(f"the text of number {row}\n" for row in range(50)), "utf-8")
    return write_plannable_assets(tmp_path / "assets", ("tiny", "other"))


def graph(assets: Path, /, **changes: object) -> Graph:
    bank = {"files": [str(assets.parent / "bank.txt")], "encoder": "tfidf"}
    return graph_of(assets, assets.parent / "runs", **{"method": "no-kd", "bank": bank, **changes})[1]


def nodes(assets: Path, /, **changes: object) -> dict[str, Node]:
    return dict(nodes_by_name(graph(assets, **changes)))


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        graph(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def general(start: dict[str, object] | None = None, /, **pretrain: object) -> dict[str, object]:
    given = {"texts": "bank", "taught_by": "base", "states": {"pairs": PAIRS}}
    return {**(start or {"cut": {"of": "base", "layers": [1, 2]}}), "pretrain": {**given, **pretrain}}


def pretrained(node: Node) -> PretrainSpec:
    assert isinstance(node.spec, PretrainSpec)
    return node.spec


def source(node: Node, name: str) -> str:
    given = node.inputs[name]
    return given.source.name if isinstance(given, Edge) else given.about


# --- nodes ------------------------------------------------------------------------------------------


def test_one_dump_of_the_bank_serves_all_entries_and_all_tasks(assets: Path) -> None:
    models = {
        "general": general(),
        "other-one": general({"cut": {"of": "base", "layers": [3]}}, states="attend"),
        "fresh": general({"config": {"model": str(assets / "model"), "num_hidden_layers": 2}}),
    }
    found = nodes(assets, task=TASKS, models=models, student={"start": "general"})
    assert [name for name in found if name.startswith("texts")] == ["texts/bank"]
    assert [name for name in found if name.startswith("teach")] == ["teach/base:bank"]
    for name in models:
        node = found[f"pretrain/{name}"]
        assert {key: source(node, key) for key in ("texts", "outputs")} == {
            "texts": "texts/bank",
            "outputs": "teach/base:bank",
        }
        assert set(node.inputs) == {"start", "texts", "outputs"} and node.task == ""
    store = found["teach/base:bank"]
    assert store.spec == TeachSpec(splits=("train", "holdout"), logits=False)
    assert {name: source(store, name) for name in store.inputs} == {
        "corpus": "texts/bank",
        "model": str(assets / "model"),
    }
    assert found["texts/bank"].spec == TextsSpec(max_length=16)
    for task in ("tiny", "other"):
        assert source(found[f"distil/no-kd/general/0@{task}"], "start") == "pretrain/general"


def test_the_spec_has_the_layers_by_number_and_a_block_without_pairs_follows_all_layers(assets: Path) -> None:
    models = {
        "given": general(epochs=7),
        "spread": general(states="pick"),
        "rule": general(states={"pairs": "final", "pooling": "cls", "teacher_pooling": "mean"}),
        "attend": general(states={"kind": "attend", "groups": "even", "distance": "cosine"}),
    }
    found = nodes(assets, models=models)
    assert pretrained(found["pretrain/given"]) == PretrainSpec(
        start=Cut(layers=(0, 1)), states=Pick(pairs=((0, 0), (1, 2), (2, 4))), epochs=7, max_length=16
    )
    states = {name: pretrained(found[f"pretrain/{name}"]).states for name in models}
    assert states["spread"] == states["given"]
    assert states["rule"] == Pick(pairs=((2, 4),), pooling="cls", teacher_pooling="mean")
    assert states["attend"] == Attend(groups=((1, 2), (3, 4)), distance="cosine")


def test_rows_bytes_and_held_models_follow_from_the_bank(assets: Path) -> None:
    found = nodes(assets, models={"general": general(holdout=0.1, rows=40)})
    rows = {name: found[name].rows.value for name in ("texts/bank", "teach/base:bank", "pretrain/general")}
    assert rows == {"texts/bank": 40, "teach/base:bank": 40, "pretrain/general": 36}
    store = found["teach/base:bank"]
    assert store.extent is not None and (store.extent.layers, store.extent.outputs) == (5, 0)
    assert store.bytes.value == 40 * (16 + 5 * 32 * 2)
    held = found["pretrain/general"].held
    assert held is not None and held == HeldModels(held.student)


def test_a_probe_times_no_model_on_these_texts_and_still_times_the_students(assets: Path) -> None:
    models = {"general": general(), "own": general(texts="task")}
    found = nodes(assets, models=models, student={"start": "general"})
    for name in ("teach/base:bank", "teach/base:train@tiny", "pretrain/general", "pretrain/own@tiny"):
        assert task_corpus(found[name]) is None
    student = found["distil/no-kd/general/0@tiny"]
    assert task_corpus(student) == found["corpus@tiny"]
    assert trained_origin(student).model.about == str(assets / "model")


def test_texts_of_a_task_and_models_of_a_task_make_nodes_of_the_task(assets: Path) -> None:
    models = {"own": general(texts="task"), "tuned": general(taught_by="teacher")}
    found = nodes(assets, task=TASKS, models=models)
    for task in ("tiny", "other"):
        assert source(found[f"texts/train@{task}"], "corpus") == f"corpus@{task}"
        assert source(found[f"teach/base:train@{task}"], "corpus") == f"texts/train@{task}"
        assert source(found[f"pretrain/own@{task}"], "outputs") == f"teach/base:train@{task}"
        assert source(found[f"pretrain/tuned@{task}"], "outputs") == f"teach/teacher:bank@{task}"
        assert source(found[f"teach/teacher:bank@{task}"], "model") == f"finetune@{task}"
    assert "texts/bank" in found and "texts/bank@tiny" not in found


def test_other_lengths_or_samples_are_other_texts(assets: Path) -> None:
    models = {"a": general(), "b": general(max_length=8), "c": general(rows=20)}
    found = nodes(assets, models=models)
    texts = {name: found[source(found[f"pretrain/{name}"], "texts")].spec for name in models}
    assert texts == {
        "a": TextsSpec(max_length=16),
        "b": TextsSpec(max_length=8),
        "c": TextsSpec(max_length=16, rows=20),
    }
    assert len({source(found[f"pretrain/{name}"], "outputs") for name in models}) == 3


def test_a_teacher_of_another_tokenizer_reads_its_own_tokens_of_the_same_texts(assets: Path) -> None:
    other = write_plannable_model(assets / "elsewhere", vocab_size=9)
    vocabulary = {"model": {"type": "WordPiece", "vocab": {"[CLS]": 0, "a": 1}}}
    (other / "tokenizer.json").write_text(json.dumps(vocabulary), "utf-8")
    found = nodes(assets, models={"general": general(taught_by=str(other))})
    store = found["teach/elsewhere:" + source(found["pretrain/general"], "outputs").partition(":")[2]]
    texts = [source(found["pretrain/general"], "texts"), source(store, "corpus")]
    assert len(set(texts)) == 2
    assert {source(found[name], "bank") for name in texts} == {"bank"}


def test_a_teacher_may_be_another_entry_whatever_it_was_trained_on(assets: Path) -> None:
    models = {
        "large": general({"model": str(assets / "model")}, states="pick"),
        "masked": {"model": str(assets / "model"), "pretrain": "bank"},
        "small": general({"cut": {"of": "large", "layers": [1, 2]}}, taught_by="large"),
        "other": general(taught_by="masked"),
    }
    found = nodes(assets, models=models)
    assert source(found["pretrain/small"], "start") == "pretrain/large"
    assert source(found["teach/large:bank"], "model") == "pretrain/large"
    assert source(found["teach/masked:bank"], "model") == "pretrain/masked"


def test_students_start_from_all_or_some_of_its_layers_with_the_head_that_they_name(assets: Path) -> None:
    students = [
        {"label": "whole", "start": "general", "head": "mean"},
        {"label": "cut", "cut": {"of": "general", "layers": [2]}},
    ]
    found = nodes(assets, models={"general": general()}, student=students, method="no-kd")
    starts = {}
    for label in ("whole", "cut"):
        node = found[f"distil/no-kd/{label}/0@tiny"]
        assert isinstance(node.spec, DistilSpec) and source(node, "start") == "pretrain/general"
        starts[label] = node.spec.start
    assert starts == {"whole": Pretrained(head="mean"), "cut": Cut(layers=(1,))}


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pretrain", "line"),
    [
        ({"states": {"pairs": [[1, 9]]}}, "states: the teacher has no layer 9; it has 0 (embeddings) to 4"),
        ({"states": {"pairs": [[3, 4]]}}, "states: the student has no layer 3; it has 0 (embeddings) to 2"),
        (
            {"states": {"pairs": PAIRS, "pooling": "cls"}},
            "states.pooling: cls, but store.pooling is mean; make them the same",
        ),
        (
            {"states": {"pairs": PAIRS, "teacher_pooling": "cls"}},
            "states.teacher_pooling: cls, but store.pooling is mean; set that to cls or both",
        ),
        ({"max_length": 4096}, "max_length: 4096, but the model of models.general reads at most"),
        ({"taught_by": "/nowhere/model"}, "taught_by: /nowhere/model has no config.json"),
    ],
)
def test_layers_poolings_and_lengths_that_do_not_fit_are_refused(
    assets: Path, pretrain: dict[str, object], line: str
) -> None:
    assert refusal(assets, models={"general": general(**pretrain)}).startswith(f"models.general.pretrain.{line}")


def test_layers_that_the_store_leaves_out_are_refused(assets: Path) -> None:
    line = refusal(assets, models={"general": general()}, store={"layers": [0, 4]})
    assert line == (
        "models.general.pretrain.states: needs layers 2 of the teacher, which store.layers leaves out; add them there"
    )


def test_a_student_deeper_than_its_teacher_needs_pairs(assets: Path) -> None:
    small = write_plannable_model(assets / "shallow", num_hidden_layers=1)
    line = refusal(assets, models={"general": general(states="pick", taught_by=str(small))})
    assert line.startswith(
        "models.general.pretrain.states.pairs: spread cannot divide 1 teacher layers among 2 student"
    )


def test_a_model_whose_states_are_those_of_a_decoder_is_refused(assets: Path) -> None:
    model = write_plannable_model(assets / "bart", model_type="bart", d_model=32, encoder_layers=2, decoder_layers=2)
    line = refusal(assets, models={"general": general(taught_by=str(model))})
    assert line.startswith("models.general.pretrain.taught_by: bart reads the states of a decoder, so that its states")
