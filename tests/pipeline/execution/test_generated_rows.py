"""A recipe with a generator, run in this process: MATE-KD, Combined KD and CILDA from the plan to the table of rows."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import ONE_THREAD, Project, stillhouse, write_project
from transformers import AutoModelForSequenceClassification

TURNS = {"generator_steps": 2, "student_steps": 3, "learning_rate": 1.0e-3}
METHODS = [
    "vanilla-kd",
    {"use": "mate-kd", "data": TURNS, "targets": {"calibrated": True}},
    {"use": "combined-kd", "data": TURNS},
    {"use": "cilda", "data": TURNS},
]
GENERATORS = ("mate-kd", "combined-kd", "cilda")


@pytest.fixture(scope="module")
def ran(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its run. Not to be changed."""
    project = write_project(
        tmp_path_factory.mktemp("generated") / "project",
        assets,
        method=METHODS,
        models={"generator": {"cut": {"of": "base", "layers": [1]}, "pretrain": {"texts": "task", "steps": 4}}},
        train={"epochs": 2, "max_length": 16, "batch_size": 8},
        resources={**ONE_THREAD, "pretrain": {"cpus_per_worker": 1}},
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def folder_of(ran: Project, name: str) -> Path:
    key = str(ran.records()[name]["key"])
    (found,) = (ran.storage / "distil" / key).glob("[0-9]*")
    return found


def students(ran: Project) -> dict[str, str]:
    """The label of each method with a generator -> the name of its student's node."""
    names = list(ran.records())
    return {label: next(name for name in names if name.startswith(f"distil/{label}/")) for label in GENERATORS}


def test_students_of_a_generator_are_models_of_transformers_and_are_scored_as_all_others(ran: Project) -> None:
    methods = {row["method"] for row in ran.rows() if row["status"] == "done"}
    assert set(GENERATORS) <= methods
    for name in students(ran).values():
        model = AutoModelForSequenceClassification.from_pretrained(folder_of(ran, name) / "model")
        assert model.config.num_labels == 2


def test_the_history_tells_what_the_generator_did_in_each_epoch(ran: Project) -> None:
    for label, name in students(ran).items():
        epochs = json.loads((folder_of(ran, name) / "history.json").read_text("utf-8"))["epochs"]
        taking_part = ["generated" in epoch for epoch in epochs]
        assert taking_part == ([True, False] if label == "combined-kd" else [True, True])
        assert epochs[0]["generated"]["objective"] is not None and epochs[0]["generated"]["rows"] > 0


def test_the_report_counts_generated_rows_and_what_the_teacher_read_of_them_and_of_its_store(ran: Project) -> None:
    stored = ran.records()["teach@tiny"]["facts"]["rows"]
    rows = {row["method"]: (row["augmented_rows"], row["teacher_rows"]) for row in ran.rows() if row["seed"] == 0}
    assert (rows["vanilla-kd"], rows["teacher"]) == ((0, stored), (0, 0))
    for label, name in students(ran).items():
        epochs = json.loads((folder_of(ran, name) / "history.json").read_text("utf-8"))["epochs"]
        entries = [epoch["generated"] for epoch in epochs if "generated" in epoch]
        written = sum(entry["rows"] for entry in entries)
        assert rows[label] == (written, stored + written + sum(entry["generator_rows"] for entry in entries))
        assert written > 0 and all(entry["generator_rows"] > 0 for entry in entries)


def test_show_prints_rows_as_they_are_and_as_the_generator_writes_them(ran: Project) -> None:
    name = students(ran)["mate-kd"]
    rows = pq.read_table(folder_of(ran, name) / "generated.parquet").to_pylist()
    assert len(rows) == 20 and any(row["original"] != row["generated"] for row in rows)
    shown = stillhouse("show", str(folder_of(ran, name)))
    assert shown.code == 0, shown.err
    assert "original" in shown.out and "generated" in shown.out
    assert f"{rows[0]['teacher_before']:.2f} -> {rows[0]['teacher_after']:.2f}" in shown.out


def test_the_plan_says_how_often_a_live_teacher_runs_and_what_a_worker_holds(ran: Project) -> None:
    steps = ran.plan("--set", "train.epochs=3")
    mate, vanilla = (
        next(step for name, step in steps.items() if f"/{label}/" in name) for label in ("mate-kd", "vanilla-kd")
    )
    rows = mate["rows"]
    assert isinstance(rows, dict) and isinstance(rows["value"], int)
    assert mate["generated_rows"] == 3 * rows["value"] and vanilla["generated_rows"] is None
    assert int(str(mate["held_bytes"])) > int(str(vanilla["held_bytes"])) > 0
    printed = ran("plan", "--set", "train.epochs=3").out
    assert "each live teacher reads" in printed and "live teachers" in printed
    refused = ran("plan", "--set", "train.epochs=3", "--set", "limits.memory=1000")
    line = refused.err.splitlines()[-1]
    assert refused.code == 2 and line.startswith("stillhouse: limits.memory: 1,000, but a worker of distil/")
