"""A recipe with general distillation, run in this process: one store of the bank for two models that follow it,
students that start from them, and a model of the task's own texts that follows the fine-tuned teacher."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from project import ONE_THREAD, Project, stillhouse, write_project
from safetensors.torch import load_file
from tiny import BAD, GOOD, THINGS
from transformers import AutoModel, AutoTokenizer

from stages.corpus.row_key import row_key

SETTINGS = {"epochs": 3, "batch_size": 8, "learning_rate": 5.0e-3, "holdout": 0.2}
OF_BASE = {"texts": "bank", "taught_by": "base", **SETTINGS}
PAIRS = [[0, 0], [1, 2], [2, 4]]
MODELS = {
    "general": {
        "cut": {"of": "base", "layers": [1, 3]},
        "pretrain": {**OF_BASE, "states": {"pairs": PAIRS}, "learning_rate": 1.0e-4},
    },
    "tuned": {
        "start": "general",
        "pretrain": {
            "texts": "task",
            "taught_by": "teacher",
            "states": {"pairs": "final", "pooling": "cls"},
            **SETTINGS,
        },
    },
}


@pytest.fixture(scope="module")
def ran(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its run. Not to be changed."""
    folder = tmp_path_factory.mktemp("general")
    texts = [f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} and the {THINGS[n % 5]} too" for n in range(60)]
    pq.write_table(pa.table({"text": texts}), folder / "bank.parquet")
    narrow = {"model": str(assets / "model"), "num_hidden_layers": 2, "hidden_size": 16}
    project = write_project(
        folder / "project",
        assets,
        student=[
            {"label": "general", "start": "general", "head": "mean"},
            {"label": "cut", "cut": {"of": "tuned", "layers": [2]}},
        ],
        method=["no-kd", "vanilla-kd"],
        train={"epochs": 1, "max_length": 16},
        models={**MODELS, "narrow": {"config": narrow, "pretrain": {**OF_BASE, "states": "pick"}}},
        store={"pooling": "both"},
        bank={"files": [str(folder / "bank.parquet")], "encoder": "tfidf"},
        resources={**ONE_THREAD, "pretrain": {"cpus_per_worker": 1}},
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def test_one_store_without_logits_serves_all_models_of_the_bank(ran: Project) -> None:
    plan, records = ran.plan(), ran.records()
    assert {step["action"] for step in plan.values()} == {"reuse"}
    stores = [name for name in plan if name.startswith("teach/base")]
    assert stores == ["teach/base:bank"] and plan["teach/base:bank"]["serves"] == 4
    for name in ("pretrain/general", "pretrain/narrow"):
        assert records[name]["inputs"]["outputs"] == records["teach/base:bank"]["key"]
    assert records["pretrain/tuned@tiny"]["inputs"]["outputs"] == records["teach/teacher:train@tiny"]["key"]
    table = pq.read_table(next(ran.artifact("teach/base:bank").glob("shard-*.parquet")))
    states = [f"{pooling}_{layer:02d}" for pooling in ("hidden", "cls") for layer in range(5)]
    assert table.column_names == ["row_key", *states]
    # Of 30 different texts of the bank a fifth is held out.
    assert records["teach/base:bank"]["facts"]["rows"] == 30
    assert records["texts/bank"]["facts"]["rows"] == {"train": 24, "holdout": 6}
    rows = [plan[name]["rows"]["value"] for name in ("texts/bank", "teach/base:bank", "pretrain/general")]
    assert rows == [30, 30, 24]


def test_its_rows_are_the_texts_of_the_bank_under_their_keys(ran: Project) -> None:
    stored = pq.read_table(next(ran.artifact("teach/base:bank").glob("shard-*.parquet")))["row_key"].to_pylist()
    texts = {f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} and the {THINGS[n % 5]} too" for n in range(60)}
    assert set(stored) == {row_key((text,)) for text in texts}


def test_held_out_losses_fall_and_no_teacher_runs_in_the_training(ran: Project) -> None:
    for name in ("pretrain/narrow", "pretrain/tuned@tiny"):
        facts = ran.records()[name]["facts"]
        assert facts["after"]["loss"] < facts["before"]["loss"], name
        history = json.loads((ran.artifact(name) / "history.json").read_text("utf-8"))
        assert len(history["epochs"]) == 3 and history["epochs"][-1]["held_out"] == facts["after"]
        assert set(facts["before"]) == {"loss"}
    assert set(ran.records()["pretrain/general"]["inputs"]) == {"start", "texts", "outputs"}


def test_transformers_loads_the_encoder_with_its_tokenizer(ran: Project) -> None:
    directory = ran.artifact("pretrain/general") / "model"
    model, info = AutoModel.from_pretrained(directory, output_loading_info=True)
    assert model.config.num_hidden_layers == 2 and not info["unexpected_keys"]
    inputs = AutoTokenizer.from_pretrained(directory)(["the soup was fine"], return_tensors="pt")
    with torch.no_grad():
        assert model(**inputs).last_hidden_state.shape[-1] == model.config.hidden_size
    card = (directory / "README.md").read_text("utf-8")
    assert "general distillation" in card and "0 <- 0, 1 <- 2, 2 <- 4" in card


def test_students_start_from_the_weights_that_it_ends_with(ran: Project, assets: Path) -> None:
    records = ran.records()
    for method in ("no-kd", "vanilla-kd"):
        assert records[f"distil/{method}/general/0@tiny"]["inputs"]["start"] == records["pretrain/general"]["key"]
    assert records["distil/no-kd/cut/0@tiny"]["inputs"]["start"] == records["pretrain/tuned@tiny"]["key"]
    own = load_file(ran.artifact("pretrain/general") / "model" / "model.safetensors")
    given = load_file(assets / "model" / "model.safetensors")
    same = {name for name in own if "layer." not in name and torch.equal(own[name], given[name])}
    assert same == {"pooler.dense.weight", "pooler.dense.bias"}, "which no state that is compared depends on"


def test_show_and_verify_read_the_store_and_show_prints_the_losses(ran: Project) -> None:
    shown = stillhouse("show", "pretrain/general", "--storage", str(ran.storage))
    after = ran.records()["pretrain/general"]["facts"]["after"]["loss"]
    assert shown.code == 0 and f"{after:.4f}" in shown.out and "held-out accuracy" not in shown.out
    store = stillhouse("show", "teach/base:bank", "--storage", str(ran.storage))
    assert store.code == 0 and "layers 0, 1, 2, 3, 4, pooling both" in store.out
    checked = stillhouse("verify", "teach/base:bank", "--storage", str(ran.storage), "--sample", "10")
    assert checked.code == 0, checked.out + checked.err


def test_the_time_of_another_is_estimated_and_the_plan_names_the_layers(ran: Project) -> None:
    change = ("--set", "models.general.pretrain.epochs=30", "--stage", "pretrain/general")
    step, record = ran.plan(*change)["pretrain/general"], ran.records()["pretrain/general"]
    assert step["action"] == "build" and step["seconds_from"] == "records"
    assert step["seconds"] == pytest.approx(record["seconds"] + 9 * record["facts"]["train_seconds"], abs=0.11)
    assert [(group["student"], group["teacher"]) for group in step["layers"]] == [(0, [0]), (1, [2]), (2, [4])]
    assert step["held_bytes"] > 0
    assert step["bytes"]["value"] >= sum(file["size"] for file in record["files"])
