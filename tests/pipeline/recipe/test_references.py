"""Chains of teachers, epochs and a student that teaches itself, from the recipe to students that are trained."""

import json
from pathlib import Path

import pytest
from project import Project, stillhouse, write_project

MODELS = {
    "assistant": {"cut": {"of": "teacher", "layers": [1, 2, 3]}, "method": "vanilla-kd"},
    "again": {
        "cut": {"of": "teacher", "layers": [1, 2, 3]},
        "method": "vanilla-kd",
        "taught_by": "assistant",
        "train": {"seed": 1},
    },
    "both": {"members": ["assistant", "again"], "shares": [0.7, 0.3]},
}
METHODS = [
    {"use": "takd", "taught_by": "assistant"},
    "self-kd",
    "no-kd",
    {"use": "pro-kd", "train": {"epochs": 4}},
    {"use": "multi-teacher", "taught_by": ["assistant", "again"], "targets": {"shares": [0.7, 0.3]}},
    {"use": "vanilla-kd", "label": "mean", "taught_by": ["teacher", "itself"]},
    {"use": "vanilla-kd", "label": "by-both", "taught_by": "both"},
    "universal-kd",
]


@pytest.fixture(scope="module")
def chains(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All of these, run in this process. Not to be changed."""
    finetune = {"epochs": 3, "learning_rate": 1.0e-2, "keep": "epochs"}
    teacher = {"model": str(assets / "model"), "finetune": finetune}
    folder = tmp_path_factory.mktemp("chains")
    house = write_project(folder, assets, teacher=teacher, models=MODELS, method=METHODS, equal_steps=False)
    done = house("run", "--inline")
    assert done.code == 0, done.err
    return house


def test_every_student_is_trained_and_a_second_run_has_nothing_to_do(chains: Project) -> None:
    rows = {str(row["method"]): row["status"] for row in chains.rows()}
    labels = ["takd", "self-kd", "no-kd", "pro-kd", "multi-teacher", "mean", "by-both", "universal-kd"]
    models = [f"model:{name}" for name in ("teacher:1", "teacher:2", "teacher:3", "assistant", "again", "both")]
    assert rows == dict.fromkeys(["teacher", *models, *labels], "done")
    assert "nothing to do" in chains("run", "--inline").out


def test_a_model_after_an_epoch_loads_in_plain_transformers_and_differs_from_the_next(chains: Project) -> None:
    from transformers import AutoModelForSequenceClassification

    folders = [Path(str(row["artifact"])) for row in chains.rows() if str(row["method"]).startswith("model:teacher:")]
    assert [folder.name for folder in folders] == ["01", "02", "03"]
    weights = [AutoModelForSequenceClassification.from_pretrained(folder).classifier.weight for folder in folders]
    assert not (weights[0] == weights[1]).all()
    assert not (weights[1] == weights[2]).all()


def test_the_store_of_an_epoch_holds_the_outputs_of_that_model(chains: Project) -> None:
    from pyarrow import parquet

    def outputs(name: str) -> list[object]:
        return [
            row
            for path in sorted(chains.artifact(name).glob("shard-*"))
            for row in parquet.read_table(path).to_pylist()
        ]

    stores = [outputs(f"teach/teacher:{epoch}@tiny") for epoch in (1, 2, 3)]
    assert stores[0] != stores[1] != stores[2]
    assert len(stores[0]) == len(stores[1]) == len(outputs("teach@tiny")) > 0


def test_the_record_of_a_store_names_the_epoch_and_its_rows_are_outputs_of_that_model(chains: Project) -> None:
    record = chains.records()["teach/teacher:2@tiny"]
    inputs, places = record["inputs"], record["places"]
    assert isinstance(inputs, dict) and isinstance(places, dict)
    key = chains.records()["finetune@tiny"]["key"]
    assert inputs["model"] == f"{key}/epochs/02"
    assert places["model"].endswith("/epochs/02")
    folder = chains.artifact("teach/teacher:2@tiny")
    done = stillhouse("verify", str(folder), "--storage", str(chains.storage), "--sample", "8")
    assert (done.code, done.err) == (0, "")
    assert "8 rows computed again by the teacher: all within" in done.out


def test_an_ensemble_has_the_parameters_of_its_members_and_a_score(chains: Project) -> None:
    rows = {str(row["method"]): row for row in chains.rows()}
    parts = [rows[f"model:{name}"]["student_parameters"] for name in ("assistant", "again")]
    assert rows["model:both"]["student_parameters"] == sum(map(int, map(str, parts)))
    assert rows["model:both"]["score"] is not None


def test_a_student_of_an_ensemble_is_the_student_of_its_members(chains: Project) -> None:
    """Shares of the ensemble, and shares of the method, are one training: it was carried out once."""
    keys = {name: step["key"] for name, step in chains.plan().items()}
    records = {str(record["key"]) for record in chains.records().values() if record["stage"] == "distil"}
    assert "distil/multi-teacher/two/0@tiny" in keys
    assert "distil/by-both/two/0@tiny" not in keys, "it is the same node"
    assert len(records) == len([name for name in keys if name.startswith(("distil/", "finetune@"))])


def test_the_teacher_is_in_the_lineage_of_a_student(chains: Project) -> None:
    def teachers(label: str) -> list[str]:
        lineage = json.loads((chains.artifact(f"distil/{label}/two/0@tiny") / "lineage.json").read_text("utf-8"))
        return [of["name"] for name, of in lineage["inputs"].items() if name.startswith("outputs")]

    assert teachers("takd") == ["teach/assistant@tiny"]
    assert teachers("self-kd") == ["teach/no-kd/two/0@tiny"]
    assert teachers("pro-kd") == [f"teach/teacher:{epoch}@tiny" for epoch in (1, 2, 3)]
    assert teachers("mean") == ["teach@tiny", "teach/no-kd/two/0@tiny"]
