"""Trainings that leave padding out: the models and methods for which planning refuses them."""

from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from stages.specs.student import DistilSpec


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def refusal(assets: Path, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        graph_of(assets, assets.parent / "runs", **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_students_and_teacher_have_the_setting_of_their_own_block(assets: Path) -> None:
    found = nodes_by_name(graph_of(assets, assets.parent / "runs", method="no-kd", train={"unpadded": True})[1])
    specs = [node.spec for node in found.values() if isinstance(node.spec, DistilSpec)]
    assert {node.role for node in found.values() if isinstance(node.spec, DistilSpec)} == {"finetune", "distil"}
    assert sorted(spec.train.unpadded for spec in specs) == [False, True]


def test_a_student_whose_layers_need_padding_is_refused(assets: Path) -> None:
    modern = write_plannable_model(assets / "modern", model_type="modernbert")
    student = {"label": "two", "model": str(modern)}
    assert refusal(assets, method="no-kd", student=student, train={"unpadded": True}) == (
        "task tiny, method no-kd: train.unpadded: true, but the layers of modernbert cannot leave padding out; leave "
        "it out, or use a model that is one of bert, camembert, distilbert, electra, ernie, roberta, xlm-roberta"
    )


def test_a_bilstm_is_refused_though_its_words_are_a_berts(assets: Path) -> None:
    line = refusal(assets, method="no-kd", student={"bilstm": {}}, train={"unpadded": True})
    assert line.startswith("task tiny, method no-kd: train.unpadded: true, but the layers of stillhouse-bilstm cannot ")


def test_a_teacher_whose_layers_need_padding_is_refused(assets: Path) -> None:
    modern = write_plannable_model(assets / "modern", model_type="modernbert")
    teacher = {"model": str(modern), "finetune": {"epochs": 1, "unpadded": True}}
    student = {"label": "own", "model": str(assets / "model")}
    assert refusal(assets, method="no-kd", teacher=teacher, student=student).startswith(
        "task tiny: teacher.finetune.unpadded: true, but the layers of modernbert cannot leave padding out; "
    )


def test_a_compiled_model_is_refused(assets: Path) -> None:
    line = refusal(assets, method="no-kd", train={"unpadded": True, "compile": True})
    assert line.startswith("task tiny, method no-kd: train.unpadded: true, but train.compile is, too, ")


def test_a_method_that_compares_attention_is_refused(assets: Path) -> None:
    write_plannable_model(assets / "heads", num_attention_heads=2)
    teacher = {"model": str(assets / "heads"), "finetune": {"epochs": 1}}
    assert refusal(assets, teacher=teacher, method="tinybert", train={"unpadded": True}) == (
        "task tiny, method tinybert: train.unpadded: true, but structure.scores needs the padded attention of the "
        "model; give train: {unpadded: false} for this method, or scores: false"
    )
