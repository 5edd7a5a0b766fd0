"""``stillhouse init`` writes a recipe that a plan accepts, or says in one line why it does not."""

import csv
import json
import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from project import ROOT, CommandResult, stillhouse, write_plannable_model
from tiny import packaged_model

from pipeline.cli.data.init import InitRequest, init_recipe
from pipeline.errors import RequestError
from pipeline.recipe import load
from pipeline.recipe.model import TaskRecipe

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
THREE = ("title", "summary", "body", "label")


def text(row: int, words: int = 6) -> str:
    return " ".join(["one", "two", "three", "four", "five", "six", "seven"][:words]) + f" {row}"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def questions(prefix: str, rows: int) -> list[tuple[str, str]]:
    return [(f"{prefix} {text(row)}", ("HUM", "LOC", "NUM")[row % 3]) for row in range(rows)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files of several shapes."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "questions.csv", ("question", "topic"), questions("train", 1500))
    write_csv(tmp_path / "three.csv", THREE, ((text(n, 2), text(n, 3), text(n), n % 2) for n in range(60)))
    reviews = ((text(row, 2), text(row), row % 5 + 1) for row in range(60))
    write_csv(tmp_path / "reviews.csv", ("title", "body", "stars"), reviews)
    with (tmp_path / "pairs.jsonl").open("w") as file:
        for row in range(60):
            file.write(json.dumps({"text1": text(row), "text2": text(row + 1), "score": row % 21 / 4}) + "\n")
    return tmp_path


def task_of(recipe: Path) -> TaskRecipe:
    (task,) = load(recipe).tasks
    return task


def refused(*arguments: str) -> str:
    """The line with which ``init`` refuses; it wrote nothing."""
    before = sorted(Path().rglob("*"))
    result = stillhouse("init", *arguments)
    assert (result.code, result.out) == (2, ""), result
    assert result.err.count("\n") == 1 and sorted(Path().rglob("*")) == before
    return result.err.removeprefix("stillhouse: ").rstrip("\n")


def planned(recipe: str) -> set[str]:
    """The names of the nodes in the plan of a recipe, which has no warnings."""
    result = stillhouse("plan", recipe, "--format", "json")
    assert (result.code, result.err) == (0, ""), result.err
    return {step["node"] for step in json.loads(result.out)}


# --- what is written ------------------------------------------------------------------------------


def test_a_recipe_is_written_that_a_plan_accepts_as_it_is(folder: Path) -> None:
    assert stillhouse("init", "questions.csv") == CommandResult(
        0,
        "1,500 rows, text in `question`, 3 classes in `topic`, max_length 32\n"
        "Wrote recipe.yaml. Next: stillhouse plan recipe.yaml\n",
        "",
    )
    nodes = planned("recipe.yaml")
    assert {f"distil/{method}/two/{seed}@questions" for method in ("no-kd", "vanilla-kd", "annealing-kd")
            for seed in (0, 1, 2)} < nodes  # fmt: skip
    assert {"finetune@questions", "teach@questions", "corpus@questions"} < nodes


def test_every_line_of_the_recipe_fits_and_its_commands_name_the_file(folder: Path) -> None:
    assert stillhouse("init", "questions.csv", "--out", "my recipe.yaml").out.endswith("plan 'my recipe.yaml'\n")
    lines = Path("my recipe.yaml").read_text("utf-8").splitlines()
    assert max(map(len, lines)) <= 120
    assert any("stillhouse run 'my recipe.yaml' --inline" in line for line in lines)


def test_the_alternatives_that_stand_in_comments_are_accepted_too(folder: Path) -> None:
    """Each # that takes a key out is taken away."""
    assert stillhouse("init", "questions.csv").code == 0
    Path("more.txt").write_text("".join(f"an unlabelled question about {text(row)}\n" for row in range(50)))
    shutil.copy("questions.csv", "dev.csv")
    recipe = Path("recipe.yaml").read_text("utf-8")
    changed = recipe.replace("  # - {label: three", "  - {label: three").replace("# bank: ", "bank: ")
    changed = changed.replace("# validation: FILE", "validation: dev.csv").replace("sentences.txt", "more.txt")
    (method,) = [line for line in recipe.splitlines() if "use: transfer" in line]
    changed = changed.replace("method:\n", f"method:\n{method.replace('# ', '', 1)}\n")
    changed = changed.replace("learning_rate: 2.0e-4  ", "rates: [1.0e-4, 2.0e-4, 4.0e-4]  # ")
    Path("recipe.yaml").write_text(changed, "utf-8")
    task = task_of(Path("recipe.yaml"))
    assert [use.label for use in task.methods] == ["transfer", "no-kd", "vanilla-kd", "annealing-kd"]
    assert [student.label for student in task.students] == ["two", "three"]
    assert task.bank is not None and task.methods[0].rates == (1e-4, 2e-4, 4e-4)
    assert task.files is not None and set(task.files) == {"train", "validation"}


def test_train_dev_and_test_are_files_of_one_task_and_their_paths_stay_as_they_were_given(folder: Path) -> None:
    for split, rows in (("train", 300), ("dev", 60), ("test", 60)):
        write_csv(folder / "my data" / f"q_{split}.csv", ("question", "topic"), questions(split, rows))
    files = [f"my data/q_{split}.csv" for split in ("test", "dev", "train")]
    result = stillhouse("init", *files, "--out", "my data/r.yaml")
    assert result.out.startswith("300 rows of train (with validation and test), text in `question`, 3 classes in")
    task = task_of(folder / "my data" / "r.yaml")
    assert task.task.name == "q" and task.task.dev == ("validation",) and task.task.test == ("test",)
    assert dict(task.files or {}) == dict(zip(("test", "validation", "train"), files, strict=True))
    assert "corpus@q" in planned("my data/r.yaml")


def test_title_body_and_stars_are_a_pair_of_texts_with_classes(folder: Path) -> None:
    assert stillhouse("init", "reviews.csv").out.startswith(
        "60 pairs, texts in `title` and `body`, 5 classes in `stars`, max_length 32\n"
    )
    task = task_of(folder / "recipe.yaml").task
    assert task.text == ("title", "body") and task.labels == ("1", "2", "3", "4", "5")
    assert task.metrics == ("accuracy", "macro_f1")


def test_two_texts_with_a_score_are_a_regression_that_a_plan_accepts(folder: Path) -> None:
    assert stillhouse("init", "pairs.jsonl", "--storage", "here").out.startswith(
        "60 pairs, texts in `text1` and `text2`, scores in `score`, max_length 32\n"
    )
    recipe = load(folder / "recipe.yaml")
    assert recipe.storage == "here" and recipe.tasks[0].task.regression
    assert "distil/annealing-kd/two/0@pairs" in planned("recipe.yaml")


def test_labels_that_yaml_would_read_as_something_else_are_read_back_as_they_are(folder: Path) -> None:
    names = ["no", "true", "a, b", "[x]", "c: d", "x #y", "'q'", '"', "null", "01", "n\u00e9", "~", "1e5", "&a", "- b"]
    write_csv(folder / "odd.csv", ("text", "label"), ((text(row), names[row % len(names)]) for row in range(300)))
    assert stillhouse("init", "odd.csv").code == 0
    assert sorted(task_of(folder / "recipe.yaml").task.labels or ()) == sorted(names)
    assert "corpus@odd" in planned("recipe.yaml")


def test_many_labels_are_written_on_several_lines(folder: Path) -> None:
    names = [f"a rather long label {number}" for number in range(40)]
    write_csv(folder / "many.csv", ("text", "label"), ((text(row), names[row % 40]) for row in range(400)))
    assert stillhouse("init", "many.csv").code == 0
    assert set(task_of(folder / "recipe.yaml").task.labels or ()) == set(names)
    assert max(map(len, Path("recipe.yaml").read_text("utf-8").splitlines())) <= 120


def test_macro_f1_leads_where_most_rows_have_one_label(folder: Path) -> None:
    rows = ((text(row), "rare" if row % 10 == 0 else "usual") for row in range(100))
    write_csv(folder / "uneven.csv", ("text", "label"), rows)
    assert stillhouse("init", "uneven.csv").code == 0
    assert task_of(folder / "recipe.yaml").task.metrics == ("macro_f1", "accuracy")


# --- the teacher ----------------------------------------------------------------------------------


def write_teacher(folder: Path, **config: object) -> None:
    """A model of four layers with a real tokenizer, that can be planned over and not run."""
    write_plannable_model(folder, vocab_size=30522, max_position_embeddings=64, **config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(packaged_model() / name, folder / name)


def test_a_teacher_is_fine_tuned_and_its_students_are_some_of_its_layers(folder: Path) -> None:
    write_teacher(folder / "model", num_hidden_layers=12)
    assert stillhouse("init", "questions.csv", "--teacher", "./model").code == 0
    task = task_of(folder / "recipe.yaml")
    assert task.teacher.model == "./model" and task.teacher.head is None and task.teacher.finetune is not None
    (student,) = task.students
    assert student.label == "four" and student.cut is not None and student.cut.layers == (3, 6, 9, 12)
    assert "distil/vanilla-kd/four/0@questions" in planned("recipe.yaml")


def test_a_teacher_whose_outputs_are_called_like_the_labels_is_not_fine_tuned_again(folder: Path) -> None:
    names = {"0": "NUM", "1": "HUM", "2": "LOC"}
    write_teacher(folder / "model", architectures=["BertForSequenceClassification"], id2label=names)
    result = stillhouse("init", "questions.csv", "--teacher", "model")
    assert "; the teacher is fine-tuned already\n" in result.out
    assert task_of(folder / "recipe.yaml").teacher.finetune is None
    nodes = planned("recipe.yaml")
    assert "teach@questions" in nodes and "finetune@questions" not in nodes


def test_a_teacher_whose_layers_cannot_be_cut_gets_a_student_of_its_own(folder: Path) -> None:
    write_teacher(folder / "model", model_type="albert", architectures=["AlbertModel"])
    assert stillhouse("init", "questions.csv", "--teacher", "model").code == 0
    (student,) = task_of(folder / "recipe.yaml").students
    assert (student.model, student.head) == (MINILM, "mean")


def test_a_model_that_is_not_there_or_cannot_classify_is_refused(folder: Path) -> None:
    assert refused("questions.csv", "--teacher", "./model").startswith("--teacher: ./model has no config.json; give")
    write_teacher(folder / "model", model_type="vit", architectures=["ViTModel"])
    assert refused("questions.csv", "--teacher", "model").startswith("--teacher: model: ")


# --- what is refused ------------------------------------------------------------------------------


def test_no_file_is_ever_overwritten(folder: Path) -> None:
    Path("recipe.yaml").write_text("mine")
    Path("link.yaml").symlink_to("nowhere.yaml")
    assert refused("questions.csv") == (
        "--out: recipe.yaml exists and is not overwritten; give another file name by --out"
    )
    assert refused("questions.csv", "--out", "link.yaml").startswith("--out: link.yaml exists")
    assert refused("questions.csv", "--out", "none/r.yaml").startswith("--out: none is no folder")
    assert Path("recipe.yaml").read_text() == "mine"


def test_away_from_a_terminal_three_texts_are_refused_with_the_candidates(folder: Path) -> None:
    assert refused("three.csv") == (
        "three.csv: which column is the text is not clear: title, summary, body; name one by --text, or two of a pair, "
        "for example --text body"
    )
    assert stillhouse("init", "three.csv", "--text", "title", "--text", "body").code == 0
    assert task_of(folder / "recipe.yaml").task.text == ("title", "body")


def test_away_from_a_terminal_two_labels_are_refused_with_the_candidates(folder: Path) -> None:
    write_csv(folder / "two.csv", ("text", "shape", "size"), ((text(n), "xy"[n % 2], "abc"[n % 3]) for n in range(60)))
    assert refused("two.csv") == (
        "two.csv: which column is the label is not clear: shape, size; name one by --label, for example --label shape"
    )
    assert stillhouse("init", "two.csv", "--label", "size").code == 0
    assert task_of(folder / "recipe.yaml").task.labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("none.csv",), "none.csv: there is no such file; give a CSV, TSV, JSONL or Parquet file"),
        (("s3://bucket/a.csv",), "s3://bucket/a.csv: init reads files of this machine; download it first"),
        ((".",), ".: a folder; give a regular file"),
        (("three.csv", "reviews.csv"), "three.csv, reviews.csv: which of these files is train, validation and test"),
        (("questions.csv", "--label", "topics"), "--label: questions.csv has no column topics; did you mean topic?"),
        (("questions.csv", "--text", "quest"), "--text: questions.csv has no column quest; did you mean question?"),
        (("questions.csv", "--text", "topic", "--label", "topic"), "--text: topic is given as --label too"),
        (("reviews.csv", "--text", "title", "--text", "body", "--text", "stars"), "--text: title, body, stars; give"),
        (("questions.csv", "--label", "question"), "questions.csv: no column of text beside question; it has"),
        (("questions.csv", "--text", "topic"), "questions.csv: no column of labels beside topic; it has question, "),
        (("reviews.csv", "--text", "title", "--label", "body"), "reviews.csv: column body has 60 different values in"),
    ],
)
def test_a_wrong_request_is_refused_with_its_remedy(folder: Path, arguments: tuple[str, ...], line: str) -> None:
    assert refused(*arguments).startswith(line)


GOOD = "sentence,label\n" + "".join(f"one text {row},{('bad', 'good')[row % 2]}\n" for row in range(40))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.csv", b"", "t.csv: no rows; a train split needs at least 1"),
        ("t.csv", b"sentence,label\n", "t.csv: no rows; a train split needs at least 1"),
        ("t.csv", GOOD.replace("good", "bad").encode(), "t.csv: all 40 rows have the label bad"),
        ("t.csv", GOOD.replace("x", "\u00e9").encode("latin-1"), "t.csv: 40 of 40 rows cannot be used: row 1 (line 2)"),
        ("t.csv", GOOD.replace("bad", "b\u00e9").encode("latin-1"), "t.csv: column label: byte 0xe9 is not UTF-8"),
        ("t.csv", GOOD.encode() + b"a,b,c\n", "t.csv: row 41 (line 42): 3 fields; the header has 2"),
        ("t.csv", GOOD.encode() + b"a further text,\n", "t.csv: row 41 (line 42), column label: no label ('')"),
        ("t.csv", b"n,label\n" + b"".join(b"%d,a\n%d,b\n" % (n, n) for n in range(40)), "t.csv: no column of text"),
        ("t.csv", b"text,label\n" + b"same old text,a\nsame old text,b\n", "t.csv: train: 1 distinct text(s)"),
        ("t.tsv", b"a good film\t1\na bad film\t0\n" * 9, "t.tsv: the first line seems to be a row and no header"),
        ("t.parquet", b"PAR1 and no more", "t.parquet: not a whole Parquet file"),
        ("t.xlsx", b"PK\x03\x04", "t.xlsx: unknown kind of file '.xlsx'; use one of parquet, csv, tsv, jsonl"),
    ],
)
def test_bad_data_are_refused_as_those_of_a_task_are(folder: Path, name: str, content: bytes, line: str) -> None:
    (folder / name).write_bytes(content)
    assert refused(name).startswith(line)


def test_a_dev_file_with_the_rows_of_train_is_refused(folder: Path) -> None:
    for split in ("train", "dev"):
        write_csv(folder / f"{split}.csv", ("question", "topic"), questions("same", 60))
    assert refused("train.csv", "dev.csv").startswith("dev.csv: the 60 rows of validation are those of train")


# --- questions ------------------------------------------------------------------------------------


def answering(*answers: str) -> tuple[Callable[[str, str], str], list[tuple[str, str]]]:
    """A function that gives these answers in their order, and the list of questions and defaults that it was given;
    the answer '' takes the default."""
    left, questions = list(answers), []

    def ask(question: str, default: str) -> str:
        questions.append((question, default))
        return left.pop(0) or default

    return ask, questions


def test_an_answer_that_names_no_column_is_explained_and_the_question_asked_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask, questions = answering("boddy", "title, summary")
    init_recipe(InitRequest(("three.csv",), (), None, MINILM, Path("r.yaml"), "runs"), ask)
    question = (
        "Columns of text: title, summary, body. Which one, or which two of a pair (separated by a comma)?",
        "body",
    )
    assert questions == [question, question]
    assert "--text: three.csv has no column boddy; did you mean body?" in capsys.readouterr().err
    assert task_of(folder / "r.yaml").task.text == ("title", "summary")


def test_what_is_clear_is_not_asked(folder: Path) -> None:
    ask, questions = answering()
    init_recipe(InitRequest(("questions.csv",), (), None, MINILM, Path("r.yaml"), "runs"), ask)
    assert not questions and Path("r.yaml").exists()


def test_the_recipe_is_not_written_if_its_file_appears_meanwhile(folder: Path) -> None:
    def ask(_: str, default: str) -> str:
        Path("r.yaml").write_text("mine")
        return default

    with pytest.raises(RequestError, match=r"--out: r\.yaml exists"):
        init_recipe(InitRequest(("three.csv",), (), None, MINILM, Path("r.yaml"), "runs"), ask)
    assert Path("r.yaml").read_text() == "mine"


@pytest.mark.parametrize(("answer", "code"), [(b"\n", 0), (b"\x04", 130)])
def test_on_a_terminal_an_empty_answer_takes_the_default_and_the_end_of_the_input_stops(
    folder: Path, answer: bytes, code: int
) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    arguments = [sys.executable, "-m", "pipeline", "init", "three.csv"]
    process = subprocess.Popen(arguments, env=environment, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    shown = read_until(leader, b"[body]:")
    os.write(leader, answer)
    shown += read_until(leader, b"recipe.yaml\r\n" if code == 0 else b"written\r\n")
    assert process.wait(60) == code
    os.close(leader)
    if code == 0:
        assert task_of(folder / "recipe.yaml").task.text == ("body",)
    else:
        assert shown.endswith(b"stillhouse: stopped, and nothing was written\r\n")
        assert not (folder / "recipe.yaml").exists()


def read_until(terminal: int, end: bytes) -> bytes:
    """What the program writes on a terminal, up to ``end``."""
    shown = b""
    while end not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 65536)
    return shown
