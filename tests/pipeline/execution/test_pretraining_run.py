"""A recipe with masked language models, run in this process: trained on the bank and on the task's texts, one from the
other, as the start of a student and of a model that teaches."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import ONE_THREAD, Project, stillhouse, write_project
from safetensors.torch import load_file
from tiny import BAD, GOOD, THINGS
from transformers import AutoModelForMaskedLM

SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 5.0e-3, "holdout": 0.2}
MODELS = {
    "adapted": {"cut": {"of": "base", "layers": [1, 3]}, "pretrain": {"texts": "bank", **SETTINGS}},
    "further": {"start": "adapted", "pretrain": {"texts": "task", **SETTINGS, "steps": 5}},
    "assistant": {"start": "adapted", "pretrain": {"texts": "bank", "steps": 1}, "method": "no-kd"},
    "taught": {
        "cut": {"of": "adapted", "layers": [2]},
        "pretrain": {"texts": "bank", "taught_by": "adapted", **SETTINGS},
    },
}


@pytest.fixture(scope="module")
def ran(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its run. Not to be changed."""
    folder = tmp_path_factory.mktemp("pretraining")
    texts = [f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} and the {THINGS[n % 5]} too" for n in range(60)]
    pq.write_table(pa.table({"text": texts}), folder / "bank.parquet")
    project = write_project(
        folder / "project",
        assets,
        student=[{"start": "further"}, {"label": "mean", "start": "adapted", "head": "mean"}],
        method="no-kd",
        train={"epochs": 1, "max_length": 16},
        models=MODELS,
        bank={"files": [str(folder / "bank.parquet")], "encoder": "tfidf"},
        resources={**ONE_THREAD, "pretrain": {"cpus_per_worker": 1}},
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def test_one_that_reads_the_bank_belongs_to_no_task_and_one_that_reads_its_texts_to_the_task(ran: Project) -> None:
    plan = ran.plan()
    own = {name: step for name, step in plan.items() if step["role"] == "pretrain"}
    assert {name: step["task"] for name, step in own.items()} == {
        "pretrain/adapted": "",
        "pretrain/further@tiny": "tiny",
        "pretrain/assistant": "",
        "pretrain/taught": "",
    }
    assert {step["action"] for step in plan.values()} == {"reuse"}
    # Of 30 different texts of the bank a fifth is held out, and so of the 86 rows that the task's students train on.
    rows = [own[name]["rows"]["value"] for name in ("pretrain/adapted", "pretrain/further@tiny")]
    assert rows == [24, 69]
    assert own["pretrain/adapted"]["serves"] == 2


def test_each_starts_from_the_one_before_and_its_held_out_loss_falls(ran: Project) -> None:
    records = ran.records()
    facts = {name: records[name]["facts"] for name in ("pretrain/adapted", "pretrain/further@tiny")}
    assert facts["pretrain/adapted"]["new_head"] and not facts["pretrain/further@tiny"]["new_head"]
    for found in facts.values():
        assert found["after"]["loss"] < found["before"]["loss"]
    assert facts["pretrain/further@tiny"]["steps"] == 5
    inputs = [records[name]["inputs"]["start"] for name in ("pretrain/further@tiny", "distil/no-kd/further/0@tiny")]
    assert inputs == [records[name]["key"] for name in ("pretrain/adapted", "pretrain/further@tiny")]


def test_students_and_further_models_start_from_the_adapted_weights_with_the_head_that_they_name(ran: Project) -> None:
    records = ran.records()
    student, assistant = records["distil/no-kd/mean/0@tiny"], records["distil/assistant@tiny"]
    assert student["inputs"]["start"] == records["pretrain/adapted"]["key"]
    assert student["spec"]["start"] == {"kind": "pretrained", "head": "mean"}
    assert assistant["inputs"]["start"] == records["pretrain/assistant"]["key"]
    scores = {(row["method"], row["student"]): row["score"] for row in ran.rows()}
    students = {("no-kd", "further"), ("no-kd", "mean")}
    assert scores.keys() == students | {("teacher", "model"), ("model:assistant", "assistant")}
    assert all(isinstance(score, float) for score in scores.values())


def test_a_cut_of_a_masked_language_model_keeps_its_head_and_show_prints_its_distances_from_it(ran: Project) -> None:
    record, teacher = ran.records()["pretrain/taught"], ran.records()["pretrain/adapted"]
    assert record["inputs"]["start"] == record["inputs"]["teacher"] == teacher["key"]
    assert record["spec"]["start"]["layers"] == [1] and record["spec"]["distillation"]["soft"] == 5.0
    assert record["facts"]["new_head"] is False
    history = json.loads((ran.artifact("pretrain/taught") / "history.json").read_text("utf-8"))
    last = history["epochs"][-1]["teacher"]
    result = stillhouse("show", "pretrain/taught", "--storage", str(ran.storage))
    assert (
        "soft targets" in result.out and f"{last['soft']:.4f}" in result.out and f"{last['cosine']:.4f}" in result.out
    )
    card = (ran.artifact("pretrain/taught") / "model" / "README.md").read_text("utf-8")
    assert "the loss is 5 times the divergence from its probabilities at temperature 2, plus 2 times the loss" in card


def test_the_encoder_of_the_first_step_is_the_cut_of_the_base_model(ran: Project, assets: Path) -> None:
    """Layers 1 and 3: after few steps, each weight is nearest to that of the layer which it was."""
    given = load_file(assets / "model" / "model.safetensors")
    own = load_file(ran.artifact("pretrain/adapted") / "model" / "model.safetensors")
    for layer, source in ((0, 0), (1, 2)):
        name = "encoder.layer.{}.intermediate.dense.weight"
        far = [float((own[f"bert.{name.format(layer)}"] - given[name.format(other)]).norm()) for other in range(4)]
        assert far.index(min(far)) == source


def test_transformers_loads_the_artifact_and_show_prints_its_history(ran: Project) -> None:
    model = AutoModelForMaskedLM.from_pretrained(ran.artifact("pretrain/adapted") / "model")
    assert model.config.num_hidden_layers == 2
    result = stillhouse("show", "pretrain/adapted", "--storage", str(ran.storage))
    assert result.code == 0, result.err
    assert "first weights: layers 1, 3 of the model in the input start" in result.out
    after = ran.records()["pretrain/adapted"]["facts"]["after"]
    assert "held-out loss" in result.out and f"{after['loss']:.4f}" in result.out


def test_the_time_of_another_is_estimated_from_the_texts_that_it_reads(ran: Project) -> None:
    plan = ran.plan("--set", "models.adapted.pretrain.epochs=30", "--stage", "pretrain/adapted")
    record, step = ran.records()["pretrain/adapted"], plan["pretrain/adapted"]
    assert step["action"] == "build" and step["seconds_from"] == "records"
    training = record["facts"]["train_seconds"]
    assert step["seconds"] == pytest.approx(record["seconds"] + 9 * training, abs=0.11)
    assert step["bytes"]["value"] >= sum(file["size"] for file in record["files"])


def test_the_plan_says_what_a_worker_of_a_taught_one_holds_and_how_often_its_teacher_reads(ran: Project) -> None:
    """The layers of the tiny model are narrower inside than the estimate has them, hence the tolerance."""
    taught = "models.taught.pretrain.epochs=4"
    held = ran.plan("--set", taught)["pretrain/taught"]["held_bytes"]
    student, teacher = (
        sum(weight.nbytes for weight in load_file(ran.artifact(name) / "model" / "model.safetensors").values())
        for name in ("pretrain/taught", "pretrain/adapted")
    )
    assert held == pytest.approx(4 * student + teacher, rel=0.2)
    printed = " ".join(ran("plan", "--set", taught).out.split())
    assert "pretrain/taught: the teacher reads 24 texts in each of at most 4 epochs; a worker holds about" in printed
    refused = ran("plan", "--set", taught, "--set", "limits.memory=1000")
    assert refused.code == 2 and "a worker of pretrain/taught holds" in refused.err
