"""``stillhouse report --classes``, and what ``stillhouse show`` prints of a student."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from project import CommandResult, Project, stillhouse

STUDENT = "distil/vanilla-kd/two/1@tiny"


@pytest.fixture(scope="module")
def project(first_run: tuple[Project, CommandResult]) -> Project:
    return first_run[0]


@pytest.fixture(scope="module")
def found(project: Project) -> list[dict[str, Any]]:
    result = project("report", "--classes", "--format", "json")
    assert (result.code, result.err) == (0, "")
    objects: list[dict[str, Any]] = json.loads(result.out)
    return objects


def test_each_model_has_its_classes_as_its_evaluation_stored_them(
    project: Project, found: list[dict[str, Any]]
) -> None:
    assert [(one["method"], one["seed"]) for one in found if one["method"] != "teacher"] == [
        ("no-kd", 0),
        ("no-kd", 1),
        ("vanilla-kd", 0),
        ("vanilla-kd", 1),
    ]
    (one,) = [one for one in found if (one["method"], one["seed"]) == ("vanilla-kd", 1)]
    path = project.artifact(STUDENT.replace("distil", "evaluate")) / "predictions" / "validation.parquet"
    rows = pq.read_table(path).to_pylist()
    counts = [[sum((row["label"], row["prediction"]) == (i, j) for row in rows) for j in range(2)] for i in range(2)]
    assert one["classes"]["confusion"] == counts
    assert [score["label"] for score in one["classes"]["classes"]] == ["bad", "good"]
    scores = {row["score"] for row in project.rows() if row["method"] == "vanilla-kd" and row["seed"] == 1}
    assert scores == {100 * (counts[0][0] + counts[1][1]) / len(rows)}


def test_students_are_compared_with_the_teacher_and_the_rows_have_their_texts(
    project: Project, found: list[dict[str, Any]]
) -> None:
    teacher, *students = sorted(found, key=lambda one: one["method"] != "teacher")
    assert teacher["teacher"] is None and teacher["texts"] == []
    corpus = pq.read_table(project.artifact("corpus@tiny") / "validation" / "part-00000.parquet").to_pylist()
    texts = {row["index"]: row["sentence"] for row in corpus}
    for student in students:
        most = student["teacher"]["most"]
        assert len(most) == len(student["texts"]) == 10
        assert [text for (text,) in student["texts"]] == [texts[row["index"]] for row in most]
        distances = [row["distance"] for row in most]
        assert distances == sorted(distances, reverse=True) and 0 <= student["teacher"]["same"] <= 100


def test_csv_has_a_line_for_each_model_and_class(project: Project, found: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "classes.csv"
    assert project("report", "--classes", "--format", "csv", "--out", str(out)).code == 0
    lines = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))
    assert len(lines) == 2 * len(found) and {line["label"] for line in lines} == {"bad", "good"}


def test_the_table_has_means_over_seeds(project: Project, found: list[dict[str, Any]]) -> None:
    result = project("report", "--classes")
    assert result.code == 0 and result.out.startswith("tiny, validation")
    own = [one["classes"]["classes"][0]["f1"] for one in found if one["method"] == "no-kd"]
    (line,) = [line for line in result.out.splitlines() if "no-kd" in line]
    assert f"{sum(own) / len(own):.1f}" in line and "bad" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "html"], "--classes: there is no page of it"),
        (["--baseline", "no-kd"], "--classes: has no comparison"),
        (["--out", "/no/such/folder/classes.json"], "--out: /no/such/folder/classes.json, but there is no folder"),
    ],
)
def test_what_does_not_go_with_classes_is_refused(project: Project, options: list[str], message: str) -> None:
    result = project("report", "--classes", *options)
    assert result.code == 2 and message in result.err and result.err.count("\n") == 1


def test_show_prints_the_confusion_matrix_and_the_rows_of_a_student(
    project: Project, found: list[dict[str, Any]]
) -> None:
    (one,) = [one for one in found if (one["method"], one["seed"]) == ("vanilla-kd", 1)]
    for name in (STUDENT, STUDENT.replace("distil", "evaluate")):
        out = stillhouse("show", name, "--storage", str(project.storage)).out
        assert "rows by label, and by predicted label" in out
        assert f"predicts as its teacher on {one['teacher']['same']:.1f} % of 32 rows" in out
        assert all(text in out for (text,) in one["texts"])
    teacher = stillhouse("show", "finetune@tiny", "--storage", str(project.storage)).out
    assert "rows by label" in teacher and "as its teacher" not in teacher


def test_show_of_a_student_whose_predictions_are_damaged_says_so_and_goes_on(built: Project) -> None:
    path = built.artifact(STUDENT.replace("distil", "evaluate")) / "predictions" / "validation.parquet"
    path.write_bytes(b"damaged")
    result = stillhouse("show", STUDENT, "--storage", str(built.storage))
    assert result.code == 0 and "its errors cannot be shown: predictions: " in result.out
