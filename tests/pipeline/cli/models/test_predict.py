"""``stillhouse predict``, and how the model that a command is given is found."""

import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import CommandResult, Project, stillhouse
from tiny import write_tiny_model

from stages.deployment.description import DESCRIPTION

STUDENT = "distil/vanilla-kd/two/1@tiny"
HEADER = ["prediction", "probability_bad", "probability_good"]


@pytest.fixture(scope="module")
def project(first_run: tuple[Project, CommandResult]) -> Project:
    return first_run[0]


@pytest.fixture(scope="module")
def rows(project: Project) -> list[dict[str, object]]:
    """The dev rows of the task, with their labels."""
    source = project.artifact("corpus@tiny") / "validation" / "part-00000.parquet"
    return pq.read_table(source, columns=["sentence", "label"]).to_pylist()


@pytest.fixture(scope="module")
def reviews(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dev rows as CSV, with a number for each and no labels."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "sentence"], *([number, row["sentence"]] for number, row in enumerate(rows))])
    return path


def predict(model: str | Path, *options: str | Path) -> CommandResult:
    return stillhouse("predict", str(model), *map(str, options))


@pytest.fixture(scope="module")
def printed(project: Project, reviews: Path) -> list[list[str]]:
    """The table that is printed for the student, by its directory."""
    result = predict(project.artifact(STUDENT) / "model", reviews)
    assert (result.code, result.err) == (0, "")
    return list(csv.reader(io.StringIO(result.out)))


def test_labels_by_name_and_their_probabilities_are_printed_in_the_order_of_the_rows(
    project: Project, printed: list[list[str]]
) -> None:
    header, *lines = printed
    assert header == HEADER
    (evaluation,) = [name for name in project.records() if name == STUDENT.replace("distil", "evaluate")]
    stored = pq.read_table(project.artifact(evaluation) / "predictions" / "validation.parquet").to_pylist()
    assert [line[0] for line in lines] == [["bad", "good"][row["prediction"]] for row in stored]
    for name, *numbers in lines:
        assert sum(map(float, numbers)) == pytest.approx(1, abs=1e-5)
        assert HEADER[1 + max(range(2), key=lambda n: float(numbers[n]))] == f"probability_{name}"


def test_a_directory_an_artifact_a_key_a_training_and_a_model_of_the_recipe_are_the_same_model(
    project: Project, reviews: Path, printed: list[list[str]]
) -> None:
    record, storage = project.records()[STUDENT], ("--storage", str(project.storage))
    for target in (
        project.artifact(STUDENT),
        project.artifact(STUDENT).parent,
        str(record["key"])[:12],
        STUDENT,
        f"{project.recipe}:vanilla-kd/two/1@tiny",
        f"{project.recipe}:vanilla-kd/two/1",
    ):
        result = predict(target, reviews, *storage)
        assert result.code == 0, result.err
        assert list(csv.reader(io.StringIO(result.out))) == printed, target


def test_the_teacher_of_a_recipe_is_named_by_its_method(project: Project, reviews: Path) -> None:
    result = predict(f"{project.recipe}:teacher", reviews, "--storage", project.storage)
    assert (result.code, result.out.splitlines()[0]) == (0, ",".join(HEADER))


def test_all_formats_hold_the_same_table(
    project: Project, reviews: Path, printed: list[list[str]], tmp_path: Path
) -> None:
    model, outs = project.artifact(STUDENT), [tmp_path / f"out.{kind}" for kind in ("tsv", "jsonl", "parquet")]
    for out in outs:
        result = predict(model, reviews, "--out", out)
        assert (result.code, result.out, result.err) == (0, "", f"{len(printed) - 1} predictions: {out}\n")
    tsv, jsonl, parquet = outs
    assert [line.split("\t") for line in tsv.read_text().splitlines()] == printed
    objects = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert [[row[HEADER[0]], *(f"{row[name]:.6g}" for name in HEADER[1:])] for row in objects] == printed[1:]
    table = pq.read_table(parquet)
    assert table.column_names == HEADER and table["prediction"].to_pylist() == [line[0] for line in printed[1:]]


def test_every_kind_of_file_is_read(
    project: Project, rows: list[dict[str, object]], printed: list[list[str]], tmp_path: Path
) -> None:
    texts = [str(row["sentence"]) for row in rows]
    pq.write_table(pa.table({"sentence": texts}), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in texts))
    (tmp_path / "rows.txt").write_text("".join(f"{text}\n" for text in texts))
    for kind in ("parquet", "jsonl", "txt"):
        result = predict(project.artifact(STUDENT), tmp_path / f"rows.{kind}")
        assert list(csv.reader(io.StringIO(result.out))) == printed, result.err


def test_an_older_student_without_a_description_gets_it_from_its_corpus(
    built: Project, reviews: Path, printed: list[list[str]]
) -> None:
    model = built.artifact(STUDENT) / "model"
    (model / DESCRIPTION).unlink()
    assert list(csv.reader(io.StringIO(predict(model, reviews).out))) == printed


def test_a_student_that_was_copied_elsewhere_knows_its_columns_and_its_length(
    project: Project, reviews: Path, printed: list[list[str]], tmp_path: Path
) -> None:
    shutil.copytree(project.artifact(STUDENT) / "model", tmp_path / "mine")
    assert list(csv.reader(io.StringIO(predict(tmp_path / "mine", reviews).out))) == printed
    assert json.loads((tmp_path / "mine" / DESCRIPTION).read_text())["max_length"] == 16


def test_a_long_text_is_cut_at_the_length_of_the_training(project: Project, tmp_path: Path) -> None:
    start = "the film was great number 12 and the story was dull and the cast was fine and the end"
    for name, text in (("short", start), ("long", start + " of it" * 2000)):
        (tmp_path / f"{name}.txt").write_text(text + "\n")
    first, second = (predict(project.artifact(STUDENT), tmp_path / f"{name}.txt") for name in ("short", "long"))
    assert first.code == 0 and first.out == second.out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression as transformers saves it, which names no columns."""
    from transformers import AutoModelForSequenceClassification

    directory = write_tiny_model(tmp_path_factory.mktemp("plain"), layers=1)
    AutoModelForSequenceClassification.from_pretrained(directory, num_labels=1).save_pretrained(directory)
    return directory


def test_a_directory_of_transformers_needs_the_columns_and_the_error_lists_those_with_texts(
    plain: Path, reviews: Path
) -> None:
    result = predict(plain, reviews)
    assert result.code == 2 and result.err.count("\n") == 1
    assert "give --text (columns with texts: sentence)" in result.err


def test_the_predictions_of_a_regression_are_its_values(plain: Path, reviews: Path) -> None:
    result = predict(plain, reviews, "--text", "sentence", "--text", "id")
    assert result.code == 0, result.err
    header, *values = result.out.splitlines()
    assert header == "prediction" and len(values) == len(reviews.read_text().splitlines()) - 1
    assert all(float(value) == float(value) for value in values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "texts"], "no column texts; give --text (columns with texts: sentence)"),
        (["--text", "id", "--text", "sentence"], "--text: id, sentence, but the model reads 1 texts a row"),
        (["--out", "rows.xlsx"], "rows.xlsx ends in none of .parquet, .csv, .tsv, .jsonl"),
        (["--out", "there.csv"], "there.csv exists, and is not overwritten"),
        (["--out", "nowhere/new.csv"], "there is no folder"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(
    project: Project, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").write_text("mine\n")
    result = predict(project.artifact(STUDENT), reviews, *options)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err
    assert Path("there.csv").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere/model", "nowhere/model: is neither a path, nor the name of a node, nor the start of a key"),
        ("teach@tiny", "teach@tiny is an artifact of the stage teach, which makes no model"),
        ("RECIPE:vanilla-kd", "stands for 2 models of"),
        ("RECIPE:vanila-kd/two/1", "did you mean vanilla-kd/two/1@tiny?"),
        ("feed", "is neither a path, nor the name of a node, nor the start of a key"),
    ],
)
def test_a_model_that_is_not_there_is_one_line_that_says_what_is(
    project: Project, reviews: Path, model: str, message: str
) -> None:
    named = model.replace("RECIPE", str(project.recipe))
    result = predict(named, reviews, "--storage", project.storage)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert message in result.err


def test_a_row_without_a_text_stops_before_any_prediction_and_is_named(project: Project, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.csv"
    file.write_text('{"sentence": "fine"}\n{"sentence": null}\n{"sentence": "dull"}\n')
    result = predict(project.artifact(STUDENT), file, "--out", out)
    assert result.code == 2 and "row 2, column sentence: null" in result.err
    assert not out.exists()


def test_a_model_of_the_recipe_that_is_not_built_is_refused(built: Project, reviews: Path) -> None:
    next((built.artifact(STUDENT).parent).glob("record.json")).unlink()
    result = predict(f"{built.recipe}:vanilla-kd/two/1", reviews, "--storage", built.storage)
    assert result.code == 2 and "vanilla-kd/two/1@tiny" in result.err and "stillhouse run" in result.err
