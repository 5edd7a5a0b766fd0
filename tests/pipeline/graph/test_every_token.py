"""Students that follow every token: their stores in the graph and in the plan, and what is refused."""

from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model, write_project

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, Node
from stages.specs.layers import EveryToken
from stages.specs.student import DistilSpec
from stages.specs.teacher import TeachSpec

STUDENT = "distil/tinybert/two/0@tiny"
STATES_ALONE = {"use": "tinybert", "structure": {"scores": False}}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """A teacher of 4 layers with 2 attention heads."""
    found = write_plannable_assets(tmp_path / "assets")
    write_plannable_model(found / "heads", num_attention_heads=2)
    return found


def recipe(assets: Path, method: object = "tinybert", **changes: object) -> dict[str, object]:
    teacher = {"model": str(assets / "heads"), "finetune": {"epochs": 1}}
    return {"teacher": teacher, "method": method, **changes}


def composed(assets: Path, method: object = "tinybert", **changes: object) -> dict[str, Node]:
    return dict(nodes_by_name(graph_of(assets, assets.parent / "runs", **recipe(assets, method, **changes))[1]))


def refusal(assets: Path, method: object = "tinybert", **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        composed(assets, method, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def sources(node: Node) -> dict[str, str]:
    return {name: given.source.name for name, given in node.inputs.items() if isinstance(given, Edge)}


def test_a_student_reads_the_logits_and_the_layers_that_its_own_follow_at_every_token(assets: Path) -> None:
    found = composed(assets)
    spec = found[STUDENT].spec
    assert isinstance(spec, DistilSpec) and isinstance(spec.method.structure, EveryToken)
    assert spec.method.structure.pairs == ((0, 0), (1, 2), (2, 4))
    read = sources(found[STUDENT])
    assert {name: read[name] for name in ("outputs", "tokens", "scores")} == {
        "outputs": "teach@tiny",
        "tokens": "tokens:0+2+4@tiny",
        "scores": "attention:2+4@tiny",
    }
    stores = [found[read[name]].spec for name in ("tokens", "scores")]
    assert stores == [TeachSpec(part="tokens", layers=(0, 2, 4)), TeachSpec(part="scores", layers=(2, 4))]


def test_a_store_of_the_recipe_that_has_the_layers_is_read_and_one_that_lacks_some_is_not(assets: Path) -> None:
    read = sources(composed(assets, store={"tokens": "all", "attention": [1, 3]})[STUDENT])
    assert (read["tokens"], read["scores"]) == ("tokens@tiny", "attention:2+4@tiny")


def test_without_scores_none_are_stored_and_teacher_and_student_may_differ_in_heads(assets: Path) -> None:
    write_plannable_model(assets / "other", num_attention_heads=4, num_hidden_layers=2)
    student = {"label": "two", "model": str(assets / "other")}
    read = sources(composed(assets, STATES_ALONE, student=student)[STUDENT])
    assert "tokens" in read and "scores" not in read
    assert refusal(assets, student=student) == (
        "task tiny, method tinybert: structure.scores: true, but the student two has 4 attention heads and teacher has "
        "2; set scores: false, or give the student as many"
    )


def test_the_plan_has_the_bytes_of_the_stores(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", assets, **recipe(assets))
    steps = project.plan()
    rows = 81  # of 90, a tenth is held out
    assert [steps[name]["bytes"]["value"] for name in ("tokens:0+2+4@tiny", "attention:2+4@tiny")] == [
        rows * (20 + 3 * 16 * 32 * 2),
        rows * (20 + 2 * 2 * 16 * 16 * 2),
    ]


def test_a_student_with_another_tokenizer_is_refused(assets: Path) -> None:
    other = write_plannable_model(assets / "other", num_attention_heads=2, num_hidden_layers=2)
    (other / "tokenizer.json").write_text('{"vocab": {"a": 1}}', "utf-8")
    assert refusal(assets, student={"label": "two", "model": str(other)}) == (
        "task tiny, method tinybert: structure: tokens, but the student two and teacher have different tokenizers; use "
        "a student with the teacher's tokenizer, or another structure"
    )


def test_a_student_or_teacher_that_gives_no_scores_is_refused(assets: Path) -> None:
    modern = write_plannable_model(assets / "modern", model_type="modernbert", num_attention_heads=2)
    assert refusal(assets, student={"label": "two", "model": str(modern)}) == (
        "task tiny, method tinybert: structure.scores (student two): needs attention scores before the softmax, which "
        "modernbert does not give for all tokens of a row; set scores: false, or use another model, such as a BERT or "
        "a RoBERTa"
    )
    teacher = {"model": str(modern), "finetune": {"epochs": 1}}
    student = {"label": "two", "model": str(assets / "heads"), "head": "mean"}
    assert refusal(assets, teacher=teacher, student=student).startswith(
        "task tiny, method tinybert: structure.scores (teacher): needs attention scores before the softmax, which "
    )


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (
            {"use": "tinybert", "structure": {"pairs": [[0, 0], [1, 0]]}},
            "structure.pairs: [1, 0], but the embeddings (0) have no attention scores; pair them with each other, or "
            "set scores: false",
        ),
        (
            {"use": "tinybert", "structure": {"pairs": [[2, 5]]}},
            "structure: the teacher has no layer 5; it has 0 (embeddings) to 4",
        ),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(assets: Path, method: object, line: str) -> None:
    assert refusal(assets, method) == f"task tiny, method tinybert: {line}"


def test_a_depth_that_does_not_divide_the_teachers_needs_pairs(assets: Path) -> None:
    student = {"label": "two", "cut": {"of": "teacher", "layers": [1, 2, 3]}}
    assert refusal(assets, student=student) == (
        "task tiny, method tinybert: structure.pairs: uniform needs a teacher whose depth is a multiple of the "
        "student's, and they have 4 and 3 layers; give pairs, such as [[0, 0], [3, 4]]"
    )


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (
            {"use": "tinybert", "structure": "none"},
            "method: training: layers-first follows layers, structure is none; give one, such as tokens",
        ),
        (
            {"use": "tinybert", "structure": {"kind": "pick", "weight": "auto"}},
            "method: structure.weight: auto is measured beside another term, and layers-first has none beside the "
            "layers; give a number",
        ),
        (
            {"use": "tinybert", "data": {"kind": "knn", "k": 20}},
            "method: knn needs candidates; give candidates: {tinybert: {by: tinybert, model: ...}}",
        ),
    ],
)
def test_axes_that_do_not_go_together_are_refused(assets: Path, method: object, line: str) -> None:
    assert line.removeprefix("method: ") in refusal(assets, method)


def test_a_second_phase_of_one_epoch_is_warned_of_by_its_name(assets: Path) -> None:
    graph = graph_of(assets, assets.parent / "runs", **recipe(assets), train={"epochs": 4, "max_length": 16})[1]
    assert any("of 4 epochs that leaves 1 for the logits" in line for line in graph.warnings)
