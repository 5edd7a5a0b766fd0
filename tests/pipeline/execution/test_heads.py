"""Recipes with a mean head, run in this process: fine-tuning, outputs, students, minimax, evaluation, and a further
recipe that goes on from the result."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import Project, stillhouse, write_project
from tiny import BAD, GOOD, THINGS

from stages.corpus.rowset import read_rowset
from stages.models.heads import MEAN_HEAD
from stages.models.loading import load
from stages.models.predict import predict

THREADS = {
    stage: {"cpus_per_worker": 1}
    for stage in ("corpus", "bank", "embed", "index", "candidates", "finetune", "teach", "distil", "evaluate")
}
METHODS: list[object] = ["vanilla-kd", {"use": "minimax-knn", "data": {"k": 4, "keep": 1, "every": 1}}]
STUDENTS = [
    {"label": "teacher", "cut": {"of": "teacher", "layers": [1, 3]}},
    {"label": "base", "cut": {"of": "base", "layers": [1, 3]}},
    {"label": "first", "cut": {"of": "teacher", "layers": [1, 3]}, "head": "cls"},
]


@pytest.fixture(scope="module")
def ran(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose teacher has a mean head, after its run. Not to be changed."""
    folder = tmp_path_factory.mktemp("heads")
    texts = [f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} item {n}" for n in range(60)]
    pq.write_table(pa.table({"text": texts}), folder / "bank.parquet")
    project = write_project(
        folder / "project",
        assets,
        teacher={"model": str(assets / "model"), "head": "mean", "finetune": {"epochs": 6, "learning_rate": 1.0e-2}},
        student=STUDENTS,
        bank={"files": [str(folder / "bank.parquet")], "encoder": str(assets / "model")},
        store={"pooling": "both"},
        method=METHODS,
        resources=THREADS,
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def scores(project: Project) -> dict[tuple[str, str], Any]:
    """Method and student -> the score on dev."""
    return {(str(row["method"]), str(row["student"])): row["score"] for row in project.rows()}


def test_a_teacher_with_a_mean_head_learns_and_its_students_are_evaluated(ran: Project) -> None:
    found = scores(ran)
    assert len(found) == 1 + len(METHODS) * len(STUDENTS)
    assert all(isinstance(score, float) for score in found.values())
    assert max(score for (method, _), score in found.items() if method == "teacher") > 80, "where a guess gives 50"


def test_the_store_and_the_evaluation_hold_the_logits_of_the_mean_head(ran: Project) -> None:
    model, corpus = load(ran.artifact("finetune@tiny") / "model"), ran.artifact("corpus@tiny")
    assert type(model).__name__ == "BertMeanForSequenceClassification"
    (shard,) = ran.artifact("teach@tiny").glob("shard-*")
    stored = pq.read_table(shard, columns=["row_key", "logits"]).to_pylist()
    rows = read_rowset(corpus, "train")
    expected = dict(zip(rows.row_keys, predict(model, rows, 2, "cpu"), strict=True))
    for row in stored:
        np.testing.assert_allclose(row["logits"], expected[row["row_key"]], atol=1e-4)
    evaluated = pq.read_table(ran.artifact("evaluate/teacher@tiny") / "predictions" / "validation.parquet")
    again = predict(model, read_rowset(corpus, "validation"), 2, "cpu")
    np.testing.assert_allclose(np.array(evaluated["logits"].to_pylist()), again, atol=1e-4)


def test_students_have_the_heads_that_their_recipe_gives_them(ran: Project) -> None:
    for student, kind in (("teacher", "BertMean"), ("base", "BertMean"), ("first", "Bert")):
        model = load(ran.artifact(f"distil/vanilla-kd/{student}/0@tiny") / "model")
        assert type(model).__name__ == f"{kind}ForSequenceClassification"
        assert model.config.num_hidden_layers == 2
        assert model.config.id2label == {0: "bad", 1: "good"}


def test_the_report_names_the_call_that_loads_each_model(ran: Project) -> None:
    from transformers import AutoModelForSequenceClassification

    from stillhouse import load_model

    plain = "transformers.AutoModelForSequenceClassification.from_pretrained"
    found = {str(row["student"]): str(row["loads_with"]) for row in ran.rows() if row["method"] != "teacher"}
    assert found == {"teacher": "stillhouse.load_model", "base": "stillhouse.load_model", "first": plain}
    for row in ran.rows():
        mean = row["loads_with"] == "stillhouse.load_model"
        assert row["method"] != "teacher" or mean
        loader = load_model if mean else AutoModelForSequenceClassification.from_pretrained
        parameters = sum(weights.numel() for weights in loader(str(row["artifact"])).parameters())
        assert row["teacher_parameters" if row["method"] == "teacher" else "student_parameters"] == parameters
    unbuilt = [row for row in ran.rows("--set", "method=[annealing-kd]") if row["method"] == "annealing-kd"]
    assert {row["loads_with"] for row in unbuilt} == {None}


def test_show_marks_the_columns_of_a_store_that_hardly_vary_and_says_what_that_means(ran: Project) -> None:
    """The embedding of the first token is the same for every row."""
    printed = stillhouse("show", "teach@tiny", "--storage", str(ran.storage))
    assert printed.code == 0, printed.err
    marked = [line for line in printed.out.splitlines() if "(hardly varies)" in line]
    assert any("cls_00" in line for line in marked) and not any("hidden_" in line for line in marked)
    (line,) = [line for line in printed.out.splitlines() if "columns hardly vary between rows" in line]
    assert line.startswith(f"{len(marked)} of 10 columns hardly vary") and "learns little by a head of that" in line


def test_a_further_recipe_goes_on_from_a_model_with_a_mean_head(ran: Project, assets: Path, tmp_path: Path) -> None:
    """As its teacher, as the start of students, and as the encoder of its bank."""
    model = ran.artifact("finetune@tiny") / "model"
    assert f'"{MEAN_HEAD}"' in (model / "config.json").read_text("utf-8")
    texts = [f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} item {n}" for n in range(20)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "bank.parquet")
    project = write_project(
        tmp_path / "further",
        assets,
        teacher={"model": str(model)},
        student=[
            {"label": "cut", "cut": {"of": "teacher", "layers": [1, 4]}},
            {"label": "fresh", "config": {"model": str(model), "num_hidden_layers": 1}},
        ],
        bank={"files": [str(tmp_path / "bank.parquet")], "encoder": str(model)},
        method=[{"use": "knn", "data": {"k": 2}}],
        train={"epochs": 1, "max_length": 16},
        resources=THREADS,
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    given, again = ({key: score for key, score in scores(one).items() if key[0] == "teacher"} for one in (ran, project))
    assert given == again, "the same model, on the same rows"
    for student in ("cut", "fresh"):
        assert "Mean" in type(load(project.artifact(f"distil/knn/{student}/0@tiny") / "model")).__name__
