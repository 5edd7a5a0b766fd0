"""Classification heads of a recipe: which training starts with which, what that changes of keys, and what is
refused."""

import json
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node
from stages.models.heads import ENCODER_TYPE, MEAN_HEAD
from stages.specs.student import DistilSpec, Head

FINETUNED = {"epochs": 6, "learning_rate": 1.0e-2}
CUTS: list[dict[str, object]] = [{"label": of, "cut": {"of": of, "layers": [1, 3]}} for of in ("teacher", "base")]


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def write_mean_model(folder: Path, labels: tuple[str, ...] = ("bad", "good")) -> Path:
    """The configuration of a fine-tuned BERT with a mean head, with weights that no stage can load."""
    names = {str(place): label for place, label in enumerate(labels)}
    architectures = ["BertMeanForSequenceClassification"]
    write_plannable_model(
        folder, model_type=MEAN_HEAD, **{ENCODER_TYPE: "bert"}, architectures=architectures, id2label=names
    )
    (folder / "model.safetensors").rename(folder / "model.mean_head.safetensors")
    return folder


def composed(assets: Path, /, **changes: object) -> Graph:
    return graph_of(assets, assets.parent / "runs", **changes)[1]


def trainings(assets: Path, /, **changes: object) -> dict[str, Node]:
    """Node name -> node, of each training."""
    found = nodes_by_name(composed(assets, **{"method": "no-kd", **changes}))
    return {name: node for name, node in found.items() if isinstance(node.spec, DistilSpec)}


def head_of(node: Node) -> Head | None:
    """The head of the model that a node trains."""
    assert node.model_kind is not None
    return node.model_kind.head


def heads(assets: Path, /, **changes: object) -> dict[str, tuple[Head | None, Head | None]]:
    """Label of a student, or "teacher's" -> the head that its spec names, and the head that its model has."""
    found = {}
    for name, node in trainings(assets, **changes).items():
        assert isinstance(node.spec, DistilSpec)
        found[name.split("/")[2] if "/" in name else "the teacher"] = (node.spec.start.head, head_of(node))
    return found


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        composed(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def teacher(model: Path, /, **changes: object) -> dict[str, object]:
    return {"model": str(model), "finetune": FINETUNED, **changes}


def test_students_that_are_cut_have_the_teachers_head_unless_the_recipe_gives_another(assets: Path) -> None:
    students = [
        *CUTS,
        {"label": "own", "model": str(assets / "model")},
        {"label": "fresh", "config": {"model": str(assets / "model")}, "head": "mean"},
        {"label": "first", "cut": {"of": "teacher", "layers": [1]}, "head": "cls"},
    ]
    assert heads(assets, teacher=teacher(assets / "model", head="mean"), student=students) == {
        "the teacher": ("mean", "mean"),
        "teacher": (None, "mean"),
        "base": ("mean", "mean"),
        "own": (None, "cls"),
        "fresh": ("mean", "mean"),
        "first": ("cls", "cls"),
    }


def test_a_head_that_the_model_has_anyway_changes_no_key(assets: Path) -> None:
    plain = {name: node.key for name, node in trainings(assets, student=CUTS).items()}
    explicit = trainings(
        assets,
        teacher=teacher(assets / "model", head="cls"),
        student=[{**student, "head": "cls"} for student in CUTS],
    )
    assert {name: node.key for name, node in explicit.items()} == plain
    other = trainings(assets, teacher=teacher(assets / "model", head="mean"), student=CUTS)
    assert all(node.key != plain[name] for name, node in other.items())


def test_a_model_with_a_mean_head_teaches_and_starts_students_with_its_head(assets: Path) -> None:
    model = write_mean_model(assets / "mean", ("good", "bad"))
    student = [{"label": "cut", "cut": {"of": "teacher", "layers": [1]}}, {"label": "own", "model": str(model)}]
    given = heads(assets, teacher={"model": str(model)}, student=student)
    assert given == {"cut": (None, "mean"), "own": (None, "mean")}
    again = heads(assets, teacher=teacher(model, head="cls"), student=student)
    assert again == {"the teacher": ("cls", "cls"), "cut": (None, "cls"), "own": (None, "mean")}


def test_a_further_model_has_the_head_that_its_block_gives(assets: Path) -> None:
    models = {"middle": {"cut": {"layers": [1, 2, 3]}, "head": "mean", "method": "vanilla-kd"}}
    use = {"use": "takd", "taught_by": "middle"}
    found = trainings(assets, models=models, method=[use])["distil/middle@tiny"]
    assert head_of(found) == "mean"


def test_a_student_that_goes_on_from_another_tasks_student_has_its_head(tmp_path: Path) -> None:
    assets = write_plannable_assets(tmp_path / "assets", ("tiny", "other"))
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
    found = trainings(
        assets,
        task=tasks,
        teacher=teacher(assets / "model", head="mean"),
        student={"label": "two", "cut": {"of": "base", "layers": [1, 3]}},
        overrides={"other": {"student": {"label": "two", "cut": {"of": "base", "layers": [1, 3]}, "start": "tiny"}}},
    )
    first, second = (found[f"distil/no-kd/two/0@{name}"] for name in ("tiny", "other"))
    assert isinstance(first.spec, DistilSpec) and isinstance(second.spec, DistilSpec)
    assert (first.spec.start.head, head_of(first)) == ("mean", "mean")
    assert (second.spec.start.head, head_of(second)) == (None, "mean")


def test_a_head_that_cannot_be_is_refused_while_planning(assets: Path) -> None:
    mean = write_mean_model(assets / "mean")
    untrained = refusal(assets, teacher={"model": str(mean), "head": "cls"})
    assert untrained.startswith(
        f"teacher.head: cls, but {mean} is given fine-tuned with head: mean; leave head out, or"
    )
    for model_type in ("t5", "bart"):
        sequence = write_plannable_model(assets / model_type, model_type=model_type)
        line = refusal(assets, teacher=teacher(sequence, head="mean"))
        assert line.startswith(f"teacher: head: mean, but {model_type} reads the states of a decoder; leave head out")
    decoder = write_plannable_model(assets / "qwen2", model_type="qwen2")
    student = {"label": "own", "model": str(decoder), "head": "cls"}
    assert refusal(assets, student=student).startswith(
        "student own: head: cls, but the classification head of qwen2 does not read the first token; leave head out"
    )
    composed(assets, student={"label": "own", "model": str(decoder), "head": "mean"})
    composed(assets, student={"label": "own", "model": str(decoder)})
    modern = write_plannable_model(assets / "modern", model_type="modernbert")
    fresh = {"label": "fresh", "config": {"model": str(modern), "classifier_pooling": "mean"}}
    assert heads(assets, student=fresh)["fresh"] == (None, "mean")
    assert refusal(assets, student={**fresh, "head": "cls"}).startswith(
        "student fresh: config.classifier_pooling: mean, but head: cls is given too; leave one of them out"
    )
    own_field = {"label": "fresh", "config": {"model": str(mean), "stillhouse_head": "cls"}}
    assert "config.stillhouse_head: is no setting of a student" in refusal(assets, student=own_field)
    wrong = refusal(assets, student={**CUTS[0], "head": "max"})
    assert "student.head: max" in wrong and "cls" in wrong
    members = {"both": {"members": ["teacher", "middle"], "head": "mean"}}
    middle = {"middle": {"cut": {"layers": [1]}, "method": "no-kd"}}
    assert refusal(assets, models={**middle, **members}).startswith("models.both.head: an ensemble is not trained")


# --- warnings ---------------------------------------------------------------------------------------------


def pooled(folder: Path, **modes: object) -> None:
    """Describe the model in ``folder`` as a sentence encoder with these modes of pooling."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), "utf-8")


def warnings(assets: Path, /, **changes: object) -> list[str]:
    return [line for line in composed(assets, **changes).warnings if "pooling" in line]


def test_a_model_that_was_trained_with_mean_pooling_is_warned_of_unless_the_recipe_chooses_a_head(assets: Path) -> None:
    model = assets / "model"
    pooled(model, pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    (line,) = warnings(assets)
    assert line == (
        f"teacher: {model} was trained with mean pooling, and its head would read the first token; give "
        "teacher.head: mean, or teacher.head: cls to keep it"
    )
    own = {"label": "own", "model": str(model)}
    of_teacher, of_student = warnings(assets, student=own)
    assert of_teacher == line
    assert of_student.startswith("student own:") and of_student.endswith("give head: mean, or head: cls to keep it")
    for head in ("cls", "mean"):
        assert warnings(assets, teacher=teacher(model, head=head), student={**own, "head": head}) == []
    fresh = {"label": "fresh", "config": {"model": str(model)}}
    assert warnings(assets, teacher=teacher(model, head="cls"), student=fresh) == []


def test_only_pooling_by_the_mean_alone_is_warned_of(assets: Path) -> None:
    for modes, count in (
        ({"pooling_mode_cls_token": True}, 0),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, 0),
        ({"pooling_mode": "mean"}, 1),
    ):
        pooled(assets / "model", **modes)
        assert len(warnings(assets)) == count
    (assets / "model" / "1_Pooling" / "config.json").write_text("[", "utf-8")
    assert warnings(assets) == []


def test_a_model_whose_head_reads_the_mean_by_its_own_configuration_is_not_warned_of(assets: Path) -> None:
    modern = write_plannable_model(assets / "modern", model_type="modernbert", classifier_pooling="mean")
    pooled(modern, pooling_mode_mean_tokens=True)
    assert warnings(assets, teacher=teacher(modern)) == []
    assert heads(assets, teacher=teacher(modern), student=CUTS[0]) == {
        "the teacher": (None, "mean"),
        "teacher": (None, "mean"),
    }


def test_an_adversary_on_word_embeddings_needs_a_student_that_takes_them(assets: Path) -> None:
    decoder = write_plannable_model(
        assets / "decoder", model_type="gpt2", n_embd=32, n_layer=4, n_head=4, vocab_size=1, n_positions=64
    )
    student: dict[str, object] = {"label": "decoder", "model": str(decoder)}
    for method in ("freelb", "adversarial"):
        refused = refusal(assets, method=method, student=student)
        assert f"data: {method} changes word embeddings, which the student (gpt2) does not take" in refused
    assert "distil/no-kd/decoder/0@tiny" in trainings(assets, student=student)
