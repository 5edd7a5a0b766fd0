"""``stillhouse glue``: a submission to the leaderboard from a recipe's models, and ``glue-check``."""

import csv
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from project import ONE_THREAD, CommandResult, stillhouse
from tiny import write_tiny_model

from pipeline.graph.context import GraphContext
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins
from pipeline.leaderboard.files import FILES
from pipeline.leaderboard.rows import RowsAtHand
from pipeline.recipe import load
from pipeline.storage import open_storage
from stages.specs.tasks import GLUE, Task

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[4] / "../shared/data"))
AT_HAND = ("CoLA.tsv", "STS-B.tsv", "WNLI.tsv", "AX.tsv")
"""The files whose test splits the generated data have."""
WORDS = ("dull", "fine", "weak", "great", "flat")
MNLI_OUTPUTS = ("contradiction", "entailment", "neutral")
"""The order of the outputs of the model of MNLI here, which is not that of the task."""


# --- data and models ------------------------------------------------------------------------------


def write_split(folder: Path, task: Task, split: str, rows: int, labelled: bool = True) -> None:
    """``rows`` rows of a few words, with their number, in which the labels 1, 0, 0 come in turn (or scores 1, 2, 6)."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, object] = {
        name: [f"{split} {WORDS[(row + place) % 5]} {row}" for row in range(rows)]
        for place, name in enumerate(task.text)
    }
    labels = [float([1, 2, 6][row % 3]) if task.regression else int(row % 3 == 0) for row in range(rows)]
    hidden = [-1.0 if task.regression else -1] * rows
    columns |= {"label": labels if labelled else hidden, "idx": list(range(rows))}
    pq.write_table(pa.table(columns), folder / f"{split}.parquet")


def write_classifier(folder: Path, labels: Sequence[str] | None) -> Path:
    """A random classifier whose configuration names its outputs."""
    from transformers import AutoModelForSequenceClassification

    write_tiny_model(folder, layers=1, width=16, initializer_range=1.0)
    named = {} if labels is None else {"id2label": dict(enumerate(labels))}
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels or "1"), **named)
    if labels is None:
        model.classifier.bias.data += 4.9  # so that some scores are above 5
        model.classifier.weight.data *= 5
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Task -> a fine-tuned model for it. They are so small that a second thread would only be waited for."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("models")
    orders = {task.name: task.labels for task in GLUE.values()} | {"mnli": MNLI_OUTPUTS}
    made: dict[tuple[str, ...] | None, Path] = {}
    for labels in orders.values():
        if labels not in made:
            made[labels] = write_classifier(home / str(len(made)), labels)
    return {name: made[labels] for name, labels in orders.items()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks of GLUE, with the official numbers of test rows where ``AT_HAND`` has the file."""
    home = tmp_path_factory.mktemp("glue")
    for task in GLUE.values():
        write_split(home / task.name, task, task.train, 24)
        for split in task.dev:
            write_split(home / task.name, task, split, 12)
    for file in FILES:
        if file.name in AT_HAND:
            write_split(home / file.rows_of.name, file.rows_of, file.split, file.rows, labelled=False)
    return home


def write_recipe(folder: Path, data: Path, models: Mapping[str, Path], tasks: Sequence[str], **changes: object) -> Path:
    """A recipe whose teachers are given fine-tuned, so that they can be submitted before any run."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe: dict[str, object] = {
        "name": "board",
        "storage": str(folder / "runs"),
        "data": {"source": str(data), "train_rows": 20, "eval_rows": 10, "holdout_min_rows": 0},
        "task": list(tasks),
        "teacher": {"model": str(models[tasks[0]])},
        "student": {"label": "same", "cut": {"of": "teacher", "layers": [1]}},
        "method": ["no-kd", "vanilla-kd"],
        "train": {"epochs": 1, "max_length": 16},
        "overrides": {task: {"teacher": {"model": str(models[task])}} for task in tasks},
        "resources": ONE_THREAD,
    }
    (folder / "runs").mkdir()
    path = folder / "board.yaml"
    path.write_text(yaml.safe_dump({**recipe, **changes}))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, generated: Path, models: Mapping[str, Path]) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), generated, models, ("cola", "stsb", "mnli", "wnli"))


def glue(recipe: Path, out: Path, *options: str, method: str = "teacher") -> CommandResult:
    return stillhouse("glue", str(recipe), "--method", method, "--out", str(out), *options)


def lines_of(path: Path) -> dict[str, list[str]]:
    """File -> its predictions, in the order of the rows."""
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    return {name: [line.split("\t")[1] for line in text.splitlines()[1:]] for name, text in texts.items()}


@pytest.fixture(scope="module")
def submission(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandResult, Path]:
    out = tmp_path_factory.mktemp("out") / "submission.zip"
    return glue(recipe, out, "--fill", "majority"), out


# --- a submission ---------------------------------------------------------------------------------


def test_the_zip_has_the_official_rows_and_passes_the_check(submission: tuple[CommandResult, Path]) -> None:
    result, out = submission
    assert result.code == 0, result.err
    assert {name: len(lines) for name, lines in lines_of(out).items()} == {file.name: file.rows for file in FILES}
    checked = stillhouse("glue-check", str(out))
    assert (checked.code, checked.err) == (0, "") and "11 files" in checked.out


def test_predictions_are_those_of_the_model_for_the_test_rows_in_their_order(
    submission: tuple[CommandResult, Path], generated: Path, models: Mapping[str, Path], tmp_path: Path
) -> None:
    found = lines_of(submission[1])
    for task, files in {"mnli": ("AX",), "cola": ("CoLA",), "wnli": ("WNLI",)}.items():
        for name in files:
            file = next(file for file in FILES if file.name == f"{name}.tsv")
            rows = pq.read_table(generated / file.rows_of.name / f"{file.split}.parquet").slice(0, 40)
            pq.write_table(rows, tmp_path / f"{name}.parquet")
            text = [word for column in GLUE[task].text for word in ("--text", column)]
            result = stillhouse("predict", str(models[task]), str(tmp_path / f"{name}.parquet"), *text)
            predicted = [row["prediction"] for row in csv.DictReader(io.StringIO(result.out))]
            labels = GLUE[task].labels or ()
            expected = predicted if task == "mnli" else [str(labels.index(label)) for label in predicted]
            assert found[f"{name}.tsv"][:40] == expected, name
            assert len(set(found[f"{name}.tsv"])) > 1, "the model tells rows apart"


def test_each_split_of_mnli_is_in_the_file_of_its_name(
    generated: Path, models: Mapping[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(generated, tmp_path / "data", copy_function=os.link)
    for split in GLUE["mnli"].test:
        write_split(tmp_path / "data" / "mnli", GLUE["mnli"], split, 5, labelled=False)
    recipe = load(write_recipe(tmp_path / "recipe", tmp_path / "data", models, ("mnli",)))
    storage = open_storage(recipe.storage)
    context = GraphContext(Digests.load(tmp_path / "digests.json"), Pins.load(storage, False), {})
    first = {}
    for file in FILES:
        if file.task.name == "mnli":
            rows = RowsAtHand(recipe, context).test(file)
            first[file.name] = next(rows.texts())[0][0].split()[0]
    assert first == {"MNLI-m.tsv": "test_matched", "MNLI-mm.tsv": "test_mismatched", "AX.tsv": "test"}


def test_scores_of_sts_b_are_in_their_range_and_some_were_moved_into_it(
    submission: tuple[CommandResult, Path],
) -> None:
    scores = [float(value) for value in lines_of(submission[1])["STS-B.tsv"]]
    assert max(scores) == 5.0 and min(scores) >= 0 and len(set(scores)) > 10


def test_filled_files_have_the_most_frequent_label_of_train_and_a_warning_counts_them(
    submission: tuple[CommandResult, Path],
) -> None:
    result, out = submission
    found = lines_of(out)
    filled = {"SST-2.tsv": "0", "MRPC.tsv": "0", "QQP.tsv": "0", "QNLI.tsv": "entailment", "RTE.tsv": "entailment"}
    assert {name: set(found[name]) for name in filled} == {name: {value} for name, value in filled.items()}
    (warning,) = result.err.splitlines()
    assert warning.startswith("stillhouse: warning: 7 files have one prediction for all rows: SST-2.tsv, MRPC.tsv, ")
    assert "RTE.tsv        3,000 rows  entailment, the most frequent label of train: rte is no task of" in result.out


def test_without_fill_the_files_without_predictions_are_named_and_nothing_is_written(
    recipe: Path, tmp_path: Path
) -> None:
    result = glue(recipe, tmp_path / "out.zip")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "7 of 11 files have no predictions: SST-2.tsv (sst2 is no task of the recipe); MRPC.tsv" in result.err
    assert result.err.rstrip().endswith("--fill majority") and list(tmp_path.iterdir()) == []


def test_a_student_that_is_not_built_is_named_with_the_remedy_and_predicts_once_it_is(
    generated: Path, models: Mapping[str, Path], tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "recipe", generated, models, ("wnli",), method="no-kd", seeds=[3])
    before = glue(recipe, tmp_path / "out.zip", method="no-kd")
    assert before.code == 2
    assert f"WNLI.tsv (no-kd/same/3@wnli of {recipe} is not built yet; run stillhouse run {recipe})" in before.err
    run = stillhouse("run", str(recipe), "--inline")
    assert run.code == 0, run.err
    options = ("--student", "same", "--seed", "3", "--fill", "majority")
    after = glue(recipe, tmp_path / "out.zip", *options, method="no-kd")
    assert after.code == 0, after.err
    assert "WNLI.tsv         146 rows  no-kd/same/3@wnli" in after.out
    predicted = stillhouse("predict", f"{recipe}:no-kd", str(generated / "wnli" / "test.parquet"))
    labels = GLUE["wnli"].labels or ()
    expected = [str(labels.index(row["prediction"])) for row in csv.DictReader(io.StringIO(predicted.out))]
    found = lines_of(tmp_path / "out.zip")
    assert found["WNLI.tsv"] == expected
    assert set(found["STS-B.tsv"]) == {"3.000"}, "a score is filled with the mean of train"


# --- refusals -------------------------------------------------------------------------------------


def changed_test(generated: Path, folder: Path, change: str) -> Path:
    """A copy of the data whose test split of WNLI has a row less, or two rows in another order."""
    shutil.copytree(generated, folder, copy_function=os.link)
    path = folder / "wnli" / "test.parquet"
    table = pq.read_table(path)
    path.unlink()
    order = list(range(len(table)))
    pq.write_table(table.take(order[:-1] if change == "row" else [1, 0, *order[2:]]), path)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("row", "test.parquet: 145 rows; WNLI.tsv takes the 146 rows of the official split"),
        ("order", "test.parquet: row 1 has 1 in the column idx, which must count the rows from 0"),
    ],
)
def test_a_test_split_that_is_not_the_official_one_is_refused(
    generated: Path, models: Mapping[str, Path], tmp_path: Path, change: str, message: str
) -> None:
    data = changed_test(generated, tmp_path / "data", change)
    recipe = write_recipe(tmp_path / "recipe", data, models, ("wnli",))
    result = glue(recipe, tmp_path / "out.zip", "--fill", "majority")
    assert (result.code, result.err.count("\n")) == (2, 1) and message in result.err
    assert not (tmp_path / "out.zip").exists()


def test_a_fill_without_rows_of_train_names_the_task(
    generated: Path, models: Mapping[str, Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(generated / "wnli", data / "wnli")
    recipe = write_recipe(tmp_path / "recipe", data, models, ("wnli",))
    result = glue(recipe, tmp_path / "out.zip", "--fill", "majority")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("stillhouse: --fill: CoLA.tsv: train of cola is needed: ")


def test_a_task_of_the_recipes_own_is_not_submitted_under_the_name_of_one_of_glue(
    generated: Path, models: Mapping[str, Path], tmp_path: Path
) -> None:
    own = {"name": "wnli", "text": ["sentence1", "sentence2"], "labels": ["no", "yes"]}
    recipe = write_recipe(
        tmp_path,
        generated,
        models,
        ("wnli",),
        task=own,
        teacher={"model": str(models["wnli"]), "labels": ["no", "yes"]},
        overrides={},
    )
    result = glue(recipe, tmp_path / "out.zip")
    assert "WNLI.tsv (wnli is a task of the recipe's own, with other labels than GLUE's)" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "vanila-kd"], "--method: the recipe has no vanila-kd; did you mean vanilla-kd?"),
        (["--method", "no-kd", "--student", "six"], "--student: no-kd has no six; known: same"),
        (["--method", "no-kd", "--seed", "7"], "--seed: no-kd has no seed 7; known: 0, 1"),
        (["--method", "no-kd"], "--method: no-kd stands for 2 models of cola (no-kd/same/0@cola, no-kd/same/1@cola)"),
        (["--method", "no-kd", "--out", "predictions.tsv"], "--out: predictions.tsv; the leaderboard takes a zip"),
        (["--method", "no-kd", "--out", "there.zip"], "--out: there.zip exists, and is not overwritten"),
        (["--method", "no-kd", "--out", "nowhere/new.zip"], "there is no folder"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.zip").write_text("mine")
    out = [] if "--out" in options else ["--out", "out.zip"]
    result = stillhouse("glue", str(recipe), *options, *out, "--set", "seeds=[0, 1]")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err
    assert Path("there.zip").read_text() == "mine" and not Path("out.zip").exists()


def test_the_check_by_itself_prints_each_mistake_and_exits_with_1(
    submission: tuple[CommandResult, Path], tmp_path: Path
) -> None:
    texts = {
        name: ["index\tprediction", *(f"{n}\t{value}" for n, value in enumerate(lines))]
        for name, lines in lines_of(submission[1]).items()
    }
    del texts["WNLI.tsv"][20]
    texts["RTE.tsv"][3] = "2\tyes"
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for name, lines in texts.items():
            archive.writestr(name, "\n".join(lines))
    result = stillhouse("glue-check", str(tmp_path / "mine.zip"))
    assert (result.code, result.out.splitlines()) == (
        1,
        [
            "RTE.tsv: line 4: the prediction is 'yes'; it must be entailment or not_entailment",
            "WNLI.tsv: 145 rows; the official split has 146",
            "WNLI.tsv: no row has the index 19",
        ],
    )
    missing = stillhouse("glue-check", str(tmp_path / "no.zip"))
    assert (missing.code, missing.err.count("\n")) == (2, 1) and "FILE: " in missing.err


# --- real data ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> Path:
    if not (DATA / "manifest.json").exists():
        pytest.skip(f"no data in {DATA}; set STILLHOUSE_DATA")
    return DATA


@pytest.mark.data
def test_every_test_split_of_the_real_data_is_predicted_and_qqp_and_mnli_which_have_none_are_named(
    data: Path, models: Mapping[str, Path], tmp_path: Path
) -> None:
    recipe, out = write_recipe(tmp_path / "recipe", data, models, list(GLUE)), tmp_path / "out.zip"
    refused = glue(recipe, out)
    assert refused.code == 2 and "3 of 11 files have no predictions: QQP.tsv (the data of qqp have no" in refused.err
    assert "MNLI-m.tsv (the data of mnli have no split test_matched); MNLI-mm.tsv" in refused.err
    result = glue(recipe, out, "--fill", "majority")
    assert result.code == 0, result.err
    found = lines_of(out)
    assert {name: len(lines) for name, lines in found.items()} == {file.name: file.rows for file in FILES}
    assert [name for name, lines in found.items() if len(set(lines)) == 1] == ["MNLI-m.tsv", "MNLI-mm.tsv", "QQP.tsv"]


@pytest.mark.data
def test_the_recipe_for_the_leaderboard_is_planned_and_three_tasks_start_from_the_student_of_mnli(
    data: Path, recipe_assets: Path, tmp_path: Path
) -> None:
    from shipped_recipes import with_local

    from pipeline.recipe.yaml import read

    file = tmp_path / "board.yaml"
    file.write_text(yaml.safe_dump(with_local(read(Path("recipes/glue-leaderboard.yaml")), recipe_assets)))
    storage = ("--storage", str(tmp_path / "runs"), "--set", f"data.source={data}")
    result = stillhouse("plan", str(file), "--format", "json", *storage)
    assert result.code == 0, result.err
    steps = {step["node"]: step for step in json.loads(result.out)}
    for method in ("annealing-kd", "vanilla-kd"):
        mnli = steps[f"distil/{method}/six/0@mnli"]["key"]
        starts = {task: steps[f"distil/{method}/six/0@{task}"]["inputs"]["start"] for task in GLUE}
        assert [task for task, start in starts.items() if start == mnli] == ["mrpc", "stsb", "rte"]
