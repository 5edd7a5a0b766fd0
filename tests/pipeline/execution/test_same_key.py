"""Runs in which a key stays and what is recorded under it does not serve: kept epochs, and defaults that changed."""

import hashlib
import json
from pathlib import Path

import pytest
from project import Project, write_project

from pipeline.artifacts.record import withdraw
from pipeline.storage import Storage

KEEPING: dict[str, object] = {"epochs": 2, "learning_rate": 1.0e-2, "keep": "epochs"}
BEST: dict[str, object] = {"epochs": 2, "learning_rate": 1.0e-2}


def teacher(assets: Path, finetune: dict[str, object]) -> dict[str, object]:
    return {"model": str(assets / "model"), "finetune": finetune}


def weights(project: Project, name: str) -> str:
    return hashlib.sha256((project.artifact(name) / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Project:
    """A run whose teacher keeps its best epoch alone."""
    folder = tmp_path_factory.mktemp("kept")
    project = write_project(folder, assets, teacher=teacher(assets, BEST), method="vanilla-kd")
    assert project("run", "--inline").code == 0
    return project


def test_a_training_for_further_files_that_fails_leaves_the_artifact_that_was_there(
    project: Project, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    before = project.records()
    write_project(
        project.folder,
        assets,
        teacher=teacher(assets, KEEPING),
        method=["vanilla-kd", {"use": "vanilla-kd", "label": "early", "taught_by": "teacher:1"}],
    )
    monkeypatch.setattr("stages.training.worker.save_student", fail)
    assert project("run", "--inline").code == 1
    assert project.records() == before
    write_project(project.folder, assets, teacher=teacher(assets, BEST), method="vanilla-kd")
    assert {step["action"] for step in project.plan().values()} == {"reuse"}


def test_keeping_every_epoch_later_moves_no_key_and_retrains_the_teacher_alone(project: Project, assets: Path) -> None:
    before, model = project.records(), weights(project, "finetune@tiny")
    earlier = project.artifact("finetune@tiny")
    write_project(
        project.folder,
        assets,
        teacher=teacher(assets, KEEPING),
        method=["vanilla-kd", {"use": "vanilla-kd", "label": "early", "taught_by": "teacher:1"}],
    )
    plan = project.plan()
    assert plan["finetune@tiny"]["why"] == "train.keep: recorded best, requested epochs"
    reused = {name for name, step in plan.items() if step["action"] == "reuse"}
    assert {"corpus@tiny", "teach@tiny", "distil/vanilla-kd/two/0@tiny"} <= reused
    done = project("run", "--inline")
    assert done.code == 0, done.err
    after = project.records()
    assert {name: after[name]["key"] for name in before} == {name: before[name]["key"] for name in before}
    assert weights(project, "finetune@tiny") == model
    assert (earlier / "model" / "model.safetensors").exists(), "another run may be reading it; gc frees it"
    assert sorted(path.name for path in (project.artifact("finetune@tiny") / "epochs").iterdir()) == ["01", "02"]
    assert after["distil/vanilla-kd/two/0@tiny"] == before["distil/vanilla-kd/two/0@tiny"], "it was not trained again"


def test_an_artifact_that_keeps_every_epoch_serves_a_recipe_that_asks_for_the_best(
    project: Project, assets: Path
) -> None:
    write_project(project.folder, assets, teacher=teacher(assets, BEST), method="vanilla-kd")
    assert {step["action"] for step in project.plan().values()} == {"reuse"}


def test_a_record_with_another_default_is_no_hit_and_nothing_that_was_made_of_it_is(
    project: Project, assets: Path
) -> None:
    """As if an earlier version had held out another share of train by default, under the same key."""
    write_project(project.folder, assets, teacher=teacher(assets, BEST), method="vanilla-kd")
    path = project.artifact("corpus@tiny").parent / "record.json"
    text = path.read_text("utf-8")
    record = json.loads(text)
    path.write_text(json.dumps({**record, "spec": {**record["spec"], "holdout": 0.3}}), "utf-8")
    plan = project.plan()
    assert plan["corpus@tiny"]["why"] == "holdout: recorded 0.3, requested 0.1"
    assert {step["action"] for step in plan.values()} == {"build"}
    assert plan["distil/vanilla-kd/two/0@tiny"]["why"] == "an input of it is built again"
    before = project.records()["distil/vanilla-kd/two/0@tiny"]["run"]
    done = project("run", "--inline")
    assert done.code == 0, done.err
    assert json.loads(path.read_text("utf-8"))["spec"]["holdout"] == 0.1
    assert project.records()["distil/vanilla-kd/two/0@tiny"]["run"] != before, "it was trained again"
    assert {step["action"] for step in project.plan().values()} == {"reuse"}


def test_a_run_that_is_killed_while_it_withdraws_leaves_nothing_that_is_made_of_a_withdrawn_input(
    project: Project, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(project.folder, assets, teacher=teacher(assets, BEST), method="vanilla-kd")
    assert project("run", "--inline").code == 0
    path = project.artifact("corpus@tiny").parent / "record.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, "spec": {**record["spec"], "holdout": 0.3}}), "utf-8")
    withdrawn: list[str] = []

    def withdraw_once(storage: Storage, stage: str, key: str) -> None:
        if withdrawn:
            raise KeyboardInterrupt
        withdrawn.append(key)
        withdraw(storage, stage, key)

    monkeypatch.setattr("pipeline.execution.runner.withdraw", withdraw_once)
    assert project("run", "--inline").code == 130
    monkeypatch.undo()
    assert {step["action"] for step in project.plan().values()} == {"build"}
