"""A task's data are read to the end while planning: what is wrong with them is one line and exit code 2."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
import yaml
from buckets import at, make_bucket, s3_server
from project import Project, graph_in, tiny_recipe, write_plannable_assets

from pipeline.graph.surveys import KeptSurveys
from pipeline.recipe import load

GOOD = "sentence,label\n" + "".join(f"text {row},{('bad', 'good')[row % 2]}\n" for row in range(40))
DEV = GOOD.replace("text", "dev text")
TWENTY = "train.csv: 20 of 40 rows cannot be used: row 2 (line 3), column label"
LONG = "x" * 1_000_000


def renamed(label: str) -> bytes:
    return GOOD.replace("good", label).encode()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose task has files in ``csv``: train and validation."""
    assets = write_plannable_assets(tmp_path / "assets")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text(GOOD)
    (tmp_path / "csv" / "validation.csv").write_text(DEV)
    project = Project(tmp_path)
    write_recipe(project, assets, train="train.csv", validation="validation.csv")
    return project


def write_recipe(project: Project, assets: Path, **files: str) -> None:
    task = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"]}
    named = {split: name if "://" in name else str(project.folder / "csv" / name) for split, name in files.items()}
    recipe = tiny_recipe(assets, task={**task, "files": named}, storage=str(project.storage))
    project.recipe.write_text(yaml.safe_dump(recipe), "utf-8")


def rows(project: Project) -> object:
    """The rows of the corpus in the plan, which are exact."""
    planned = project.plan()["corpus@tiny"]["rows"]
    assert isinstance(planned, dict) and planned["kind"] == "exact"
    return planned["value"]


def refused(project: Project, *options: str) -> str:
    """The line with which ``plan`` and ``run`` refuse the request, without a folder's name; nothing was built."""
    result = project("plan", *options)
    assert (result.code, result.out) == (2, ""), result
    assert result.err.count("\n") == 1 and len(result.err) < 2000
    assert not [path for path in project.storage.glob("*") if path.name != ".identity"]
    return result.err.removeprefix("stillhouse: ").rstrip("\n").replace(f"{project.folder / 'csv'}/", "")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "train.csv: no rows"),
        (b"sentence,label\n", "train.csv: no rows"),
        (renamed("nan"), TWENTY),
        (renamed("-1"), TWENTY),
        (renamed("9"), TWENTY),
        (renamed("1.5"), TWENTY),
        (renamed("fine"), TWENTY),
        (GOOD.replace("label", "class").encode(), "train.csv: no column label; it has sentence, class"),
        (GOOD.replace("sentence,", "label,sentence,").encode(), "train.csv: 2 columns are called label"),
        (GOOD.replace(",", ";").encode(), "train.csv: no column sentence; it has sentence;label; its columns are"),
        (GOOD.replace(",", "\t").encode(), "train.csv: no column sentence; it has 'sentence\\tlabel'; its columns"),
        (GOOD.encode("utf-16"), "train.csv: this file is in UTF-16"),
        (GOOD.replace("x", "\u00e9").encode("latin-1"), "train.csv: 40 of 40 rows cannot be used: row 1 (line 2)"),
        (GOOD.encode() + b"a,b,c\nd\n", "train.csv: 2 of 42 rows cannot be used: row 41 (line 42): 3 fields"),
        (GOOD.encode() + b'"a,bad\n', "train.csv: row 41 (line 42): unexpected end of data: a quote that is opened in"),
        (gzip.compress(GOOD.encode()), "train.csv: this file is compressed with gzip; let its name end in .gz"),
        (GOOD.replace("good", "bad").encode(), "train.csv: all 40 rows have the label bad"),
        (b"sentence,label\na,bad\nb,good\n", ""),
        (b"sentence,label\na,bad\na,good\n", "train: 1 distinct text(s); at least 2 are needed"),
        (b"PK\x03\x04", "train.csv: this file is a zip archive or a spreadsheet"),
        (DEV.encode(), "validation.csv: the 40 rows of validation are those of train"),
    ],
)  # fmt: skip
def test_bad_data_are_refused_while_planning(project: Project, content: bytes, line: str) -> None:
    (project.folder / "csv" / "train.csv").write_bytes(content)
    if line:
        assert refused(project).startswith(f"task.files: {line}")
    else:
        assert project("plan").code == 0


def test_a_pipe_as_data_file_is_refused_and_not_waited_for(project: Project) -> None:
    (project.folder / "csv" / "train.csv").unlink()
    os.mkfifo(project.folder / "csv" / "train.csv")
    assert refused(project) == (
        "task.files.train: train.csv is no regular file; give a path, absolute or relative to the current folder"
    )


def test_a_spreadsheet_is_refused_with_the_kinds_that_are_read(project: Project) -> None:
    shutil.move(project.folder / "csv" / "train.csv", project.folder / "csv" / "train.xlsx")
    write_recipe(project, project.folder / "assets", train="train.xlsx", validation="validation.csv")
    assert refused(project).startswith("task.files: train.xlsx: unknown kind of file '.xlsx'; use one of parquet, csv")


def test_upper_case_and_compressed_files_are_read_and_counted(project: Project) -> None:
    (project.folder / "csv" / "T.CSV.GZ").write_bytes(gzip.compress(GOOD.encode()))
    (project.folder / "csv" / "V.CSV").write_text(DEV)
    write_recipe(project, project.folder / "assets", train="T.CSV.GZ", validation="V.CSV")
    assert rows(project) == 80


def test_a_text_of_a_million_characters_is_read(project: Project) -> None:
    (project.folder / "csv" / "train.csv").write_text(f"{GOOD}{LONG},good\n")
    assert rows(project) == 81


def test_what_is_hardly_meant_is_one_warning_with_counts(project: Project) -> None:
    (project.folder / "csv" / "train.csv").write_text(f"{GOOD},bad\ntext 3,bad\ndev text 1,good\n")
    result = project("plan")
    assert (result.code, result.err) == (
        0,
        "stillhouse: warning: tiny: 1 of 43 rows of train have an empty text; 2 of 43 rows of train have a text that "
        "other rows have under another label; 1 of 40 rows of validation have a text of train (but for case and "
        "punctuation)\n",
    )


def test_data_are_read_once_for_each_content(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.storage.mkdir()
    assert project("plan").code == 0
    read: list[str] = []
    before = KeptSurveys.add
    monkeypatch.setattr(KeptSurveys, "add", lambda self, name, found: (read.append(name), before(self, name, found)))
    assert project("plan").code == 0 and not read
    with (project.folder / "csv" / "train.csv").open("a") as file:
        file.write("one more,good\n")
    assert rows(project) == 81 and len(read) == 1
    for kept in (project.storage / ".identity" / "surveys").iterdir():
        kept.write_text("{")
    assert rows(project) == 81 and len(read) == 2, "a damaged survey is made again"


def test_a_report_and_gc_do_not_read_data_nor_judge_them(built: Project, assets: Path, tmp_path: Path) -> None:
    """Results stay within reach where the data can no longer be read, or would be refused today."""
    for kept in (built.storage / ".identity" / "surveys").iterdir():
        kept.unlink()
    same = tmp_path / "data" / "tiny"
    shutil.copytree(assets / "data" / "tiny", same)
    shutil.copy(same / "train.parquet", same / "validation.parquet")
    options = ("--set", f"data.source={same.parent}")
    assert "are those of train" in built("plan", *options).err
    assert built("report", *options).code == built("gc", *options).code == 0
    assert {row["status"] for row in built.rows()} == {"done"}


def test_the_set_of_the_last_run_is_named_where_a_report_fails_by_it(built: Project) -> None:
    (built.folder / "more").mkdir()
    for split in ("train", "validation"):
        (built.folder / "more" / f"{split}.csv").write_text(GOOD if split == "train" else DEV)
    files = {split: str(built.folder / "more" / f"{split}.csv") for split in ("train", "validation")}
    task = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"], "files": files}
    assert built("run", "--inline", "--stage", "corpus", "--set", f"task={task}").code == 0
    shutil.rmtree(built.folder / "more")
    result = built("report")
    assert result.code == 2
    assert result.err.endswith(" (with the --set of the last run; --as-written leaves it out)\n")
    assert built("report", "--as-written").code == 0


def test_task_data_in_a_bucket_are_read_as_files_are(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    with s3_server() as server, at(server):
        url = make_bucket("data")
        put(url, "sets/tiny/train.csv", GOOD)
        put(url, "sets/tiny/validation.csv.gz", gzip.compress(DEV.encode()))
        put(url, "sets/tiny/notes.docx", "not data")
        recipe = tiny_recipe(project.folder / "assets", data={"source": f"{url}/sets"}, storage=str(project.storage))
        project.recipe.write_text(yaml.safe_dump(recipe), "utf-8")
        assert rows(project) == 80
        in_bucket = corpus_key(project)
        (project.folder / "sets" / "tiny").mkdir(parents=True)
        assert not project.storage.exists(), "a plan makes no storage"
        for path in (tmp_path / "cache" / "data").glob("*/tiny/*"):
            shutil.copy(path, project.folder / "sets" / "tiny")
        data = {"source": str(project.folder / "sets")}
        recipe = tiny_recipe(project.folder / "assets", data=data, storage=str(project.storage))
        project.recipe.write_text(yaml.safe_dump(recipe), "utf-8")
        assert corpus_key(project) == in_bucket, "the same bytes are the same corpus"

        write_recipe(
            project,
            project.folder / "assets",
            train=f"{url}/sets/tiny/train.csv",
            validation=f"{url}/sets/tiny/validation.csv.gz",
        )
        assert rows(project) == 80

        put(url, "sets/tiny/train.csv", f"{GOOD}one more,9\n")
        assert "train.csv: row 41 (line 42), column label: '9' is no label of tiny" in refused(project)
        write_recipe(project, project.folder / "assets", train=f"{url}/sets/tiny/nothing.csv")
        assert refused(project) == f"task.files.train: {url}/sets/tiny/nothing.csv: there is no such file"


def corpus_key(project: Project) -> str:
    recipe = load(project.recipe)
    return next(node.key for node in graph_in(project.storage, recipe).nodes if node.role == "corpus")


def put(url: str, name: str, content: str | bytes) -> None:
    import s3fs

    data = content.encode() if isinstance(content, str) else content
    s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True).pipe_file(f"{url}/{name}", data)


def test_a_path_that_begins_with_a_tilde_is_in_the_home_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(project.folder))
    recipe = tiny_recipe(
        project.folder / "assets", storage="~/runs", teacher={"model": "~/assets/model", "finetune": {}}
    )
    task = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"]}
    files = {"train": "~/csv/train.csv", "validation": "~/csv/validation.csv"}
    project.recipe.write_text(yaml.safe_dump({**recipe, "task": {**task, "files": files}}), "utf-8")
    assert load(project.recipe).storage == str(project.folder / "runs")
    assert rows(project) == 80


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("https://example.com/train.csv", "is no address that is read from; download the file, or give s3:// or gs://"),
        ("a" * 5000 + ".csv", "[Errno 36] File name too long"),
    ],
)
def test_what_cannot_be_a_file_is_refused_with_its_field(project: Project, name: str, line: str) -> None:
    write_recipe(project, project.folder / "assets", train=name, validation="validation.csv")
    found = refused(project)
    assert found.startswith("task.files.train: ") and line in found


def test_column_names_are_shown_so_that_what_cannot_be_seen_is_seen(project: Project) -> None:
    (project.folder / "csv" / "train.csv").write_text("sentence, label,te\x1b[2Jxt\na,bad,x\n")
    assert refused(project) == r"task.files: train.csv: no column label; it has sentence, ' label', 'te\x1b[2Jxt'"
