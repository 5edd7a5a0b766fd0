"""``stillhouse export`` and ``stillhouse latency``, on a student of a recipe that was run."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hub import Hub, local_hub
from project import CommandResult, Project, stillhouse

from stages.deployment import graph
from stages.deployment.export import exported_names

STUDENT = "distil/vanilla-kd/two/1@tiny"


@pytest.fixture(scope="module")
def project(first_run: tuple[Project, CommandResult]) -> Project:
    return first_run[0]


@pytest.fixture(scope="module")
def int8(project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommandResult]:
    """The student as int8 ONNX, and what the command printed."""
    out = tmp_path_factory.mktemp("exports") / "int8"
    result = stillhouse("export", str(project.artifact(STUDENT)), "--to", "onnx-int8", "--out", str(out))
    assert result.code == 0, result.err
    return out, result


def test_an_export_is_checked_on_the_dev_rows_of_its_task_and_the_figures_are_printed_and_kept(
    project: Project, int8: tuple[Path, CommandResult]
) -> None:
    out, result = int8
    found = json.loads((out / "export.json").read_text())
    check = found["check"]
    assert (check["rows"], check["source"]) == (32, "32 of 32 rows of validation")
    assert 0 < check["largest_difference"] < 0.5
    evaluation = project.records()[STUDENT.replace("distil", "evaluate")]["facts"]
    assert isinstance(evaluation, dict)
    assert check["scores_before"]["accuracy"] == pytest.approx(evaluation["scores"]["validation"]["accuracy"])
    assert set(check["scores_after"]) == {"accuracy"}
    assert f"{check['labels_changed']} labels change" in result.out and "accuracy" in result.out
    assert (found["to"], found["max_length"], found["labels"]) == ("onnx-int8", 16, ["bad", "good"])
    assert result.out.splitlines()[-1].endswith(str(out))


def test_predictions_of_an_exported_folder_are_those_of_the_student(
    project: Project, int8: tuple[Path, CommandResult], tmp_path: Path
) -> None:
    source = project.artifact("corpus@tiny") / "validation" / "part-00000.parquet"
    pq.write_table(pq.read_table(source, columns=["sentence"]), tmp_path / "rows.parquet")
    tables = []
    for model in (project.artifact(STUDENT), int8[0]):
        result = stillhouse("predict", str(model), str(tmp_path / "rows.parquet"))
        assert result.code == 0, result.err
        tables.append([line.split(",") for line in result.out.splitlines()])
    changed = sum(one[0] != other[0] for one, other in zip(*tables, strict=True))
    assert changed == json.loads((int8[0] / "export.json").read_text())["check"]["labels_changed"]
    for one, other in zip(*(table[1:] for table in tables), strict=True):
        assert list(map(float, one[1:])) == pytest.approx(list(map(float, other[1:])), abs=0.1)


def test_the_example_runs_with_onnxruntime_and_tokenizers_alone(int8: tuple[Path, CommandResult]) -> None:
    code = (int8[0] / "example.py").read_text()
    assert len(code.splitlines()) <= 13
    heavy = "import sys\nsys.modules.update({name: None for name in ('torch', 'transformers', 'stillhouse')})\n"
    (int8[0].parent / "guard.py").write_text(heavy + f"import runpy\nrunpy.run_path({str(int8[0] / 'example.py')!r})\n")
    done = subprocess.run([sys.executable, int8[0].parent / "guard.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len([word for word in ("bad", "good") if word in done.stdout]) >= 1


def test_an_exported_folder_holds_no_text_of_the_training(project: Project, int8: tuple[Path, CommandResult]) -> None:
    names = exported_names(int8[0])
    assert {"README.md", "config.json", "example.py", "export.json", "model.onnx", "tokenizer.json"} <= set(names)
    texts = pq.read_table(project.artifact("corpus@tiny") / "train" / "part-00000.parquet")["sentence"].to_pylist()
    for name in names:
        content = (int8[0] / name).read_bytes()
        assert not any(text.encode() in content for text in texts), name
    (int8[0] / "predictions.parquet").write_bytes(b"")
    try:
        with pytest.raises(ValueError, match=r"predictions.parquet is no file of an export"):
            exported_names(int8[0])
    finally:
        (int8[0] / "predictions.parquet").unlink()


def test_the_card_of_an_export_says_how_it_was_checked_and_keeps_the_scores_of_the_student(
    int8: tuple[Path, CommandResult],
) -> None:
    card = (int8[0] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: onnx\n") and "ONNX with int8 weights" in card
    assert int8[1].out.splitlines()[0] in card
    assert "## Scores" in card and "## Use" not in card


def test_the_card_of_an_export_has_the_teacher_and_its_score_beside_the_students(
    project: Project, int8: tuple[Path, CommandResult]
) -> None:
    card, records = (int8[0] / "README.md").read_text(), project.records()
    names = (
        STUDENT.replace("distil", "evaluate"),
        next(name for name in records if name.startswith("evaluate/teacher")),
    )
    own, teacher = (records[name]["facts"] for name in names)
    scores = [facts["scores"]["validation"]["accuracy"] for facts in (own, teacher)]  # type: ignore[index]
    share = 100 * scores[0] / scores[1]
    assert f"| validation | accuracy | {scores[0]:.2f} | {scores[1]:.2f} | {share:.1f} % |" in card
    assert f"The teacher is finetune@tiny, with {teacher['parameters']:,} parameters" in card  # type: ignore[index]
    assert "(median on " in card and "model-index" not in card


def test_an_export_as_safetensors_loads_with_plain_transformers_from_its_example(
    project: Project, tmp_path: Path
) -> None:
    out = tmp_path / "plain"
    result = stillhouse("export", str(project.artifact(STUDENT)), "--to", "safetensors", "--out", str(out))
    assert result.code == 0, result.err
    check = json.loads((out / "export.json").read_text())["check"]
    assert (check["largest_difference"], check["labels_changed"]) == (0, 0)
    scope: dict[str, object] = {"__file__": str(out / "example.py")}
    exec((out / "example.py").read_text(), scope)
    assert "stillhouse" not in (out / "example.py").read_text()


def test_an_export_is_measured_beside_its_model_and_the_teacher_and_reports_take_it_up(
    built: Project, int8: tuple[Path, CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.deployment import latency

    monkeypatch.setattr(latency, "TURNS", 7)
    result = stillhouse("latency", str(int8[0]), "--batch", "1,4", "--format", "json", "--storage", str(built.storage))
    assert result.code == 0, result.err
    rows = json.loads(result.out)
    names = ["teacher", STUDENT, int8[0].name]
    assert [(row["model"], row["batch"]) for row in rows] == [(name, batch) for batch in (1, 4) for name in names]
    assert [row["runtime"] for row in rows[:3]] == ["PyTorch", "PyTorch", "ONNX int8"]
    assert rows[0]["speedup"] == rows[3]["speedup"] == 1
    assert rows[1]["parameters"] == rows[2]["parameters"] < rows[0]["parameters"]
    assert rows[2]["bytes"] < rows[1]["bytes"]
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["rows_per_second"] == pytest.approx(1000 * row["batch"] / row["p50_ms"], rel=0.05)
    assert_reported(built, rows)
    result = stillhouse("latency", str(built.artifact(STUDENT)), "--batch", "2")
    assert "PyTorch" in result.out and "1.00 x" in result.out and "teacher" in result.out
    assert result.out.endswith(f"kept in {built.storage}, for stillhouse report\n")
    assert stillhouse("latency", str(int8[0]), "--batch", "1", "--storage", str(built.folder)).code == 0


def assert_reported(project: Project, rows: list[dict[str, Any]]) -> None:
    """The report has the measured ``rows``: of the teacher, the student, and its export, for batches of 1 and 4."""
    teacher, student, exported = rows[:3]
    reported = {(row["method"], row["seed"]): row for row in project.rows()}
    own, above, other = (reported[name] for name in (("vanilla-kd", 1), ("teacher", 0), ("vanilla-kd", 0)))
    for row, one in ((own, student), (above, teacher)):
        assert (row["p50_ms"], row["p95_ms"], row["bytes"]) == (one["p50_ms"], one["p95_ms"], one["bytes"])
        assert (row["measured_runtime"], row["measured_batch"], row["measured_threads"]) == ("PyTorch", 1, 1)
        assert row["measured_on"] and str(row["measured_at"]).startswith("20")
    assert (own["speedup"], above["speedup"]) == (student["speedup"], None)
    assert other["p50_ms"] is None and other["measurements"] == []
    found = own["measurements"]
    assert isinstance(found, list)
    assert [(one["runtime"], one["batch"]) for one in found] == [
        ("PyTorch", 1),
        ("ONNX int8", 1),
        ("PyTorch", 4),
        ("ONNX int8", 4),
    ]
    assert (found[1]["p50_ms"], found[1]["speedup"]) == (exported["p50_ms"], exported["speedup"])
    table = project("report").out
    assert "p50 ms" in table and f"{student['speedup']:.2f} x" in table
    line = f"{exported['bytes'] / 1e6:.1f} MB, {exported['p50_ms']:.2f} ms, {exported['speedup']:.2f} x the teacher's"
    assert f"vanilla-kd two tiny as ONNX int8: {line} speed" in table
    header, *lines = csv.reader(project("report", "--format", "csv").out.splitlines())
    assert "measurements" not in header
    assert [line[header.index("p50_ms")] for line in lines].count("") == 3
    page = project("report", "--format", "html").out
    for one, name in ((student, "vanilla-kd|two|PyTorch"), (exported, "vanilla-kd|two|ONNX int8")):
        assert f'data-measured="tiny|{name}|1|1" data-p50="{one["p50_ms"]}" data-speedup="{one["speedup"]}"' in page
    assert "tiny, by measured latency" in page


def test_measurements_of_models_that_are_gone_are_removed_by_gc(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.deployment.latency.TURNS", 7)
    for seed in (0, 1):
        model = built.artifact(f"distil/vanilla-kd/two/{seed}@tiny")
        assert stillhouse("latency", str(model), "--batch", "1").code == 0
    assert len(list(built.storage.glob(".latency/*/*.json"))) == 3
    gone = built.records()["distil/vanilla-kd/two/1@tiny"]["key"]
    assert built("gc", "--set", "seeds=[0]", "--as-written", "--yes").code == 0
    left = list(built.storage.glob(".latency/*/*.json"))
    assert len(left) == 2 and str(gone) not in {path.parent.name for path in left}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["export", "MODEL", "--to", "onnx", "--out", "there"], "--out: there exists, and is not overwritten"),
        (["export", "MODEL", "--to", "onnx", "--rows", "none.csv"], "there is no none.csv"),
        (["export", "ONNX", "--to", "onnx"], "is an ONNX model already"),
        (["export", "MODEL", "--to", "tflite"], "'tflite' is not one of"),
        (["latency", "MODEL", "--batch", "1,none"], "--batch: 1,none; give whole numbers from 1"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    project: Project,
    int8: tuple[Path, CommandResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    names = {"MODEL": str(project.artifact(STUDENT)), "ONNX": str(int8[0])}
    result = stillhouse(*(names.get(option, option) for option in options))
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert message in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_without_the_packages_of_the_extra_an_export_says_how_they_are_installed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(graph, "PACKAGES", ("onnx", "a_package_that_is_not_there"))
    result = stillhouse("export", str(project.artifact(STUDENT)), "--to", "onnx")
    assert result.code == 2 and "pip install -c constraints.txt -e '.[onnx]'" in result.err


@pytest.mark.parametrize(
    ("repository", "message"),
    [("a/b/c", "--push: a/b/c is no name of a repository"), ("me/mine", "run hf auth login")],
)
def test_a_push_that_cannot_go_through_is_refused_before_the_export(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    result = stillhouse("export", str(project.artifact(STUDENT)), "--to", "safetensors", "--push", repository)
    assert (result.code, result.err.count("\n")) == (2, 1) and message in result.err
    assert list(tmp_path.iterdir()) == []


def pushed(project: Project, out: Path, hub: Hub, refuses: str = "nothing") -> CommandResult:
    """The export of the student as it is, sent to the repository me/small of a hub."""
    hub.refuses = refuses
    return stillhouse(
        "export", str(project.artifact(STUDENT)), "--to", "safetensors", "--out", str(out), "--push", "me/small"
    )


def test_a_push_sends_the_files_of_the_export_with_its_card_and_no_text_of_the_training(
    project: Project, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    with local_hub() as hub:
        result = pushed(project, out, hub)
        assert (result.code, result.err) == (0, ""), result.err
        assert result.out.endswith(f"files: {hub.url}/me/small/commit/{'1' * 40}\n")
    sent = hub.repositories["me/small"]
    assert set(sent) == {path.name for path in out.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "stillhouse.json"} <= set(sent)
    assert all(content == (out / name).read_bytes() for name, content in sent.items())
    card = sent["README.md"].decode()
    assert card.startswith("---\n") and "model-index" in card and "| validation | accuracy |" in card
    corpus = project.artifact("corpus@tiny")
    texts = [
        str(text)
        for part in corpus.glob("*/*.parquet")
        for text in pq.read_table(part, columns=["sentence"])["sentence"].to_pylist()
    ]
    everything = b"\n".join([*sent.values(), *hub.bodies])
    assert len(texts) > 50 and not [text for text in texts if text.encode() in everything]


@pytest.mark.parametrize("refuses", ["/api/repos/create", "/api/models/me/small/commit"])
def test_a_hub_that_refuses_a_push_is_one_line_and_the_export_is_kept(
    project: Project, tmp_path: Path, refuses: str
) -> None:
    out = tmp_path / "small"
    with local_hub() as hub:
        result = pushed(project, out, hub, refuses)
    assert result.code == 1
    assert result.err == f"stillhouse: --push: me/small: You have no right to write here; the export is kept in {out}\n"
    assert (out / "model.safetensors").is_file() and not hub.repositories.get("me/small")
