import csv
import io
import json
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest
from project import CommandResult, Project, graph_of, nodes_by_name, record_for, write_plannable_assets
from rich.console import Console

from pipeline.graph.nodes import Node
from pipeline.report.rows import ReportRow, report
from pipeline.report.tables import as_csv, lines, print_table
from pipeline.storage.directory import Directory

DOCUMENTED = (
    "task",
    "method",
    "student",
    "seed",
    "split",
    "metric",
    "primary",
    "score",
    "last_epoch_score",
    "teacher_score",
    "student_parameters",
    "teacher_parameters",
    "seconds",
    "status",
    "artifact",
)


def by_student(rows: list[dict[str, object]]) -> dict[tuple[object, object], dict[str, object]]:
    return {(row["method"], row["seed"]): row for row in rows}


def test_there_is_a_row_for_each_task_method_student_seed_split_and_metric(built: Project) -> None:
    rows = built.rows("--set", "task.metric=[f1, accuracy]") + built.rows()
    found = [tuple(row[name] for name in ("method", "student", "seed", "split", "metric", "status")) for row in rows]
    students = [("no-kd", "two", 0), ("no-kd", "two", 1), ("vanilla-kd", "two", 0), ("vanilla-kd", "two", 1)]
    models = [("teacher", "model", 0), *students]
    missing = [(*model, "validation", metric, "missing") for model in models for metric in ("f1", "accuracy")]
    assert found == missing + [(*model, "validation", "accuracy", "done") for model in models]


def test_a_row_has_the_documented_fields_first(built: Project) -> None:
    for row in built.rows():
        assert tuple(row)[: len(DOCUMENTED)] == DOCUMENTED


def test_scores_are_percent_and_those_that_were_recorded(built: Project) -> None:
    rows, records = by_student(built.rows()), built.records()
    teacher = records["evaluate/teacher@tiny"]["facts"]["scores"]["validation"]["accuracy"]  # type: ignore[index]
    for (method, seed), row in rows.items():
        name = "teacher" if method == "teacher" else f"{method}/two/{seed}"
        evaluated = records[f"evaluate/{name}@tiny"]["facts"]
        trained = records["finetune@tiny" if method == "teacher" else f"distil/{name}@tiny"]["facts"]
        assert row["score"] == evaluated["scores"]["validation"]["accuracy"]  # type: ignore[index]
        assert row["last_epoch_score"] == trained["last_epoch_scores"]["validation"]["accuracy"]  # type: ignore[index]
        assert row["teacher_score"] == teacher
        assert row["seconds"] == trained["train_seconds"]  # type: ignore[index]
    assert rows["teacher", 0]["score"] == 100.0, "the tiny task is learnt, and scores are x 100"


def test_the_first_metric_is_the_headline(built: Project) -> None:
    rows = built.rows("--set", "task.metric=[f1, accuracy]")
    assert {row["metric"]: row["primary"] for row in rows} == {"f1": True, "accuracy": False}


def test_an_artifact_loads_in_plain_transformers(built: Project) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    for row in built.rows():
        folder = Path(str(row["artifact"]))
        assert folder.is_relative_to(built.storage)
        assert row["loads_with"] == "transformers.AutoModelForSequenceClassification.from_pretrained"
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert model.config.id2label == {0: "bad", 1: "good"}
        parameters = sum(weights.numel() for weights in model.parameters())
        assert row["teacher_parameters" if row["method"] == "teacher" else "student_parameters"] == parameters
        with torch.inference_mode():
            logits = model(**tokenizer("the film was great", return_tensors="pt")).logits
        if row["method"] == "teacher":
            assert model.config.id2label[int(logits.argmax())] == "good"


def test_a_model_that_is_not_built_is_missing_with_a_null_score(built: Project) -> None:
    rows = [row for row in built.rows("--set", "method=[no-kd, annealing-kd]") if row["method"] == "annealing-kd"]
    assert len(rows) == 2
    for row in rows:
        nothing = ("score", "last_epoch_score", "seconds", "student_parameters", "artifact", "loads_with", "best_epoch")
        assert row["status"] == "missing"
        assert {name: row[name] for name in nothing} == dict.fromkeys(nothing)
        assert row["teacher_score"] is not None


def test_before_the_first_run_every_row_is_missing(built: Project) -> None:
    rows = built.rows("--set", "task.name=tiny", "--set", "teacher.finetune.seed=9")
    assert {row["status"] for row in rows} == {"missing"}
    assert {row["teacher_score"] for row in rows} == {None}


def test_a_report_changes_nothing(built: Project) -> None:
    before = sorted(path for path in built.folder.rglob("*"))
    for form in ("table", "json", "csv", "html"):
        assert built("report", "--format", form).code == 0
    assert sorted(path for path in built.folder.rglob("*")) == before


# --- models that are no students ----------------------------------------------------------------------


def test_the_row_of_an_epoch_or_an_ensemble_leaves_unknown_values_null(tmp_path: Path) -> None:
    assets, storage = write_plannable_assets(tmp_path / "assets"), tmp_path / "runs"
    teacher = {"model": str(assets / "model"), "finetune": {"epochs": 2, "keep": "epochs"}}
    models = {"both": {"members": ["teacher", "teacher:1"]}}
    _, graph = graph_of(assets, storage, teacher=teacher, models=models, method="no-kd")
    for node, score in (("finetune@tiny", 0), ("evaluate/teacher:1@tiny", 70.0), ("ensemble/both@tiny", 80.0)):
        keep(storage, nodes_by_name(graph)[node], {"validation": {"accuracy": score}})
    epoch, both = (one for one in report(graph, Directory(storage)) if one.method in ("model:teacher:1", "model:both"))
    assert (epoch.student, epoch.score, epoch.status, epoch.student_parameters) == ("model", 70.0, "done", 5)
    assert epoch.artifact is not None and epoch.artifact.endswith("/0001/epochs/01")
    assert (epoch.seconds, epoch.last_epoch_score, epoch.best_epoch) == (None, None, None)
    assert (both.student, both.score, both.status, both.student_parameters) == ("both", 80.0, "done", 5)
    assert (both.seconds, both.last_epoch_score, both.artifact) == (None, None, None)


def keep(storage: Path, node: Node, scores: dict[str, dict[str, float]]) -> None:
    """Commit an evaluation with these scores, without running it."""
    out = storage / node.spec.stage / node.key / "0001"
    out.mkdir(parents=True)
    facts = {"scores": scores, "last_epoch_scores": scores, "parameters": 5, "train_seconds": 1.0, "best_epoch": 2}
    (out.parent / "record.json").write_text(json.dumps(asdict(record_for(node, out, **facts))), "utf-8")


# --- forms ----------------------------------------------------------------------------------------


def test_csv_has_the_rows_of_json(built: Project) -> None:
    rows = list(csv.DictReader(io.StringIO(built("report", "--format", "csv").out)))
    expected = [
        {name: "" if value is None else str(value) for name, value in row.items() if name != "measurements"}
        for row in built.rows()
    ]
    assert rows == expected


def test_the_table_has_the_mean_of_each_method_over_its_seeds(built: Project) -> None:
    scores = [row["score"] for row in built.rows() if row["method"] == "no-kd"]
    assert all(isinstance(score, float) for score in scores)
    mean, deviation = statistics.fmean(scores), statistics.stdev(scores)  # type: ignore[type-var]
    table = built("report").out.splitlines()
    (line,) = [line for line in table if " no-kd " in line]
    assert f"{mean:.1f} +- {deviation:.1f}" in line
    assert len([line for line in table if line.startswith(" tiny ")]) == 3


@pytest.mark.parametrize("form", ["table", "json", "csv", "html"])
def test_out_writes_what_would_be_printed(built: Project, tmp_path: Path, form: str) -> None:
    path = tmp_path / "report"
    result = built("report", "--format", form, "--out", str(path))
    assert result == CommandResult(0, "", "")
    assert path.read_text("utf-8").split() == built("report", "--format", form).out.split()


def row(**changes: object) -> ReportRow:
    plain: dict[str, object] = {
        "task": "tiny",
        "method": "no-kd",
        "student": "two",
        "seed": 0,
        "split": "validation",
        "metric": "accuracy",
        "primary": True,
        "score": 80.0,
        "last_epoch_score": 79.0,
        "teacher_score": 90.0,
        "student_parameters": 1_500_000,
        "teacher_parameters": 3_000_000,
        "seconds": 2.0,
        "status": "done",
        "artifact": "/a",
        "best_epoch": 1,
        "latency_ms": 1.0,
        "key": "k",
        "dev": True,
    }
    return ReportRow(**{**plain, **changes})  # type: ignore[arg-type]


def test_the_mean_over_tasks_is_of_headline_dev_scores_and_of_seeds_that_every_task_has() -> None:
    """Two dev splits of a task count once; test splits, other metrics and a seed that one task lacks do not count."""
    scores = {
        ("mnli", 0, "matched"): 80.0,
        ("mnli", 0, "mismatched"): 84.0,
        ("cola", 0, "validation"): 40.0,
        ("mnli", 1, "matched"): 82.0,
        ("mnli", 1, "mismatched"): 82.0,
        ("cola", 1, "validation"): 44.0,
        ("cola", 2, "validation"): 99.0,
    }
    rows = [row(task=task, seed=seed, split=split, score=score) for (task, seed, split), score in scores.items()]
    rows += [
        row(task="cola", split="test", dev=False, score=1.0),
        row(task="cola", metric="f1", primary=False, score=1.0),
    ]
    (line,) = [line for line in lines(rows) if line.task == "mean of 2 tasks"]
    assert (line.method, line.measure, line.score) == ("no-kd", "dev headline", "62.0 +- 1.4")
    assert not [line for line in lines([one for one in rows if one.task == "cola"]) if line.task.startswith("mean")]


def test_a_method_that_failed_in_a_task_has_no_mean_over_tasks() -> None:
    rows = [row(), row(task="cola", score=None, status="failed"), row(method="kd"), row(method="kd", task="cola")]
    assert [line.method for line in lines(rows) if line.task.startswith("mean")] == ["kd"]


def test_a_line_has_the_score_relative_to_the_teacher() -> None:
    (line,) = lines([row(seed=0, score=72.0), row(seed=1, score=90.0)])
    assert (line.score, line.kept, line.parameters, line.seconds) == ("81.0 +- 12.7", "90.0%", "1.5M", "2.0s")
    (line,) = lines([row(method="teacher")])
    assert line.kept == ""


def test_a_line_over_seeds_of_different_status_shows_both() -> None:
    (line,) = lines([row(seed=0), row(seed=1, status="failed", score=None)])
    assert (line.status, line.score) == ("done failed", "80.0")


def test_a_narrow_terminal_leaves_out_costs_first_and_then_times() -> None:
    def printed(width: int) -> str:
        console = Console(width=width, file=io.StringIO())
        print_table([row(teacher_rows=1200, augmented_rows=34_000)], console, "title")
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]

    assert "1,200" in printed(150) and "34,000" in printed(150)
    assert "34,000" not in printed(130) and "train time" in printed(130)
    assert "train time" not in printed(100) and "80.0" in printed(100)


def test_csv_without_rows_has_its_header() -> None:
    assert as_csv([]).strip().split(",")[: len(DOCUMENTED)] == list(DOCUMENTED)


def test_json_is_a_list(built: Project) -> None:
    assert isinstance(json.loads(built("report", "--format", "json").out), list)


def test_a_report_says_how_many_rows_of_train_are_trained_on(built: Project) -> None:
    for row in built.rows():
        assert (row["train_rows"], row["trained_rows"], row["held_out_rows"], row["cut_off_rows"]) == (96, 86, 10, 0)
    line = "tiny: 86 of 96 rows of train are trained on; 10 held out to select the epoch"
    assert line in built("report").out.splitlines()
