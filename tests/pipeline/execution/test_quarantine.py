"""``store.on_bad_rows`` through a whole run: stop, then quarantine, with candidates; then what tells of it."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import Project, stillhouse, write_project
from safetensors.torch import load_file, save_file
from tiny import THINGS, write_tiny_model, write_tiny_task
from transformers import AutoTokenizer

from stages.models.loading import build
from stages.outputs.quarantine import read_quarantined
from stages.specs.student import Pretrained
from stages.specs.tasks import Task
from stages.specs.teacher import QUARANTINED

BAD = "tiger"
METHODS: list[object] = [
    "no-kd",
    "vanilla-kd",
    {"use": "knn", "label": "drawn", "candidates": "drawn", "data": {"k": 4}},
    {"use": "minimax-knn", "label": "ordered", "candidates": "ordered", "data": {"k": 2, "keep": 1}},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A task with two rows, and a bank with one text, for which the teacher computes no numbers."""
    home = tmp_path_factory.mktemp("quarantine")
    encoder = write_tiny_model(home / "model", layers=2)
    folder = write_tiny_task(home / "data", {"train": 400, "validation": 24}) / "tiny"
    train = pq.read_table(folder / "train.parquet")
    rows = {"sentence": [f"the {BAD} was fine", f"the {BAD} was dull too"], "label": pa.array([1, 0], pa.int64())}
    pq.write_table(pa.concat_tables([train, pa.table(rows)]), folder / "train.parquet")
    texts = [f"one {THINGS[row % 6]} of {row} was good" for row in range(150)]
    (home / "bank.txt").write_text("\n".join([*texts, f"one {BAD} of them was good"]), "utf-8")
    task = Task(name="tiny", text=("sentence",), labels=("bad", "good"))
    build(Pretrained(), encoder, task).save_pretrained(home / "teacher")
    AutoTokenizer.from_pretrained(encoder).save_pretrained(home / "teacher")
    weights = load_file(home / "teacher" / "model.safetensors")
    token = AutoTokenizer.from_pretrained(encoder).convert_tokens_to_ids(BAD)
    weights["bert.embeddings.word_embeddings.weight"][token] = float("inf")
    save_file(weights, home / "teacher" / "model.safetensors", {"format": "pt"})
    return write_project(
        home / "project",
        home,
        teacher={"model": str(home / "teacher")},
        student={"label": "two", "model": str(encoder)},
        method=METHODS,
        bank={"files": [str(home / "bank.txt")], "encoder": "tfidf"},
        candidates={"drawn": "transfer", "ordered": {"by": "transfer", "found": 4, "rerank": True}},
        train={"epochs": 1, "max_length": 16},
    )


def test_a_run_that_bad_rows_stopped_goes_on_with_quarantine_and_everything_tells_of_it(project: Project) -> None:
    stopped = project("run", "--inline")
    assert stopped.code == 1 and "teach@tiny: the teacher's logits: 2 rows are not finite" in stopped.err
    before = {name: record["key"] for name, record in project.records().items()}
    assert "distil/no-kd/two/0@tiny" in before and "teach@tiny" not in before
    quarantine = ("--set", "store.on_bad_rows=quarantine")
    result = project("run", "--inline", *quarantine)
    assert result.code == 0, result.err
    store = project.artifact("teach@tiny")
    for name, rows in (("teach@tiny", 2), ("teach/candidates:drawn@tiny", 1)):
        path = project.artifact(name) / QUARANTINED
        assert f"{name}: {rows} rows are set aside" in result.out + result.err
        assert str(path) in result.out + result.err
    facts = {name: record["facts"] for name, record in project.records().items()}
    assert facts["teach@tiny"]["quarantined"] == 2  # type: ignore[index]
    assert facts["distil/vanilla-kd/two/0@tiny"]["quarantined"] == 2  # type: ignore[index]
    assert facts["distil/drawn/two/0@tiny"]["quarantined"] == 2  # type: ignore[index]
    assert "quarantined" not in facts["distil/no-kd/two/0@tiny"]  # type: ignore[operator]
    assert facts["rerank/ordered@tiny"]["by_quarantine"] > 0  # type: ignore[index]
    steps = project.plan(*quarantine)
    assert {step["action"] for step in steps.values()} == {"reuse"}
    assert before == {name: steps[name]["key"] for name in before}, "the setting is in no key"
    rows = {str(row["method"]): row["quarantined"] for row in project.rows(*quarantine)}
    assert (rows["vanilla-kd"], rows["no-kd"]) == (2, None)
    line = "tiny: 2 rows of train are set aside (store.on_bad_rows), and not trained on by vanilla-kd, drawn, ordered"
    assert line in project("report", *quarantine).out
    shown = stillhouse("show", str(store), "--storage", str(project.storage)).out
    assert f"2 rows are set aside, as the teacher's outputs for them are not finite: {QUARANTINED}" in shown
    assert "not_finite" not in shown, "the first rows that are shown are those of a shard"
    verified = stillhouse("verify", str(store), "--storage", str(project.storage), "--sample", "5")
    assert verified.code == 0, verified.out
    assert f"no other row; 2 rows are set aside ({QUARANTINED})" in verified.out


def test_a_store_with_quarantined_rows_does_not_serve_a_recipe_that_stops(project: Project) -> None:
    more = ("--set", "method={use: vanilla-kd, label: more, train: {epochs: 2}}")
    assert project.plan("--set", "store.on_bad_rows=quarantine", *more)["teach@tiny"]["action"] == "reuse"
    steps = project.plan(*more)
    assert steps["teach@tiny"]["action"] == "build"
    assert "on_bad_rows: recorded quarantine, requested stop" in str(steps["teach@tiny"]["why"])


def test_a_repaired_store_keeps_what_is_set_aside(project: Project, tmp_path: Path) -> None:
    copy = Project(shutil.copytree(project.folder, tmp_path / "project"))
    store = copy.artifact("teach@tiny")
    bad = read_quarantined(store)
    (store / "shard-00000.parquet").unlink()
    repaired = stillhouse("verify", str(store), "--storage", str(copy.storage), "--repair")
    assert repaired.code == 0, repaired.out
    assert read_quarantined(copy.artifact("teach@tiny")) == bad
    assert copy.records()["teach@tiny"]["spec"]["on_bad_rows"] == "quarantine"  # type: ignore[index]
