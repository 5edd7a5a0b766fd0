"""docs/notebook.md is true: its code runs from top to bottom, and each function returns what the page says.

The recipe is a smaller one than the project's quickstart; the code is that of the page.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tiny import write_tiny_model, write_tiny_task

import stillhouse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "notebook.md").read_text("utf-8")
HEAVY = ("torch", "transformers", "pandas", "ray", "sklearn", "datasets", "faiss")


@dataclass(frozen=True)
class Notebook:
    """The folder in which the page's code ran, and the names that it left. ``printed`` is what it wrote."""

    folder: Path
    names: dict[str, Any]
    printed: str

    @property
    def recipe(self) -> stillhouse.Recipe:
        recipe: stillhouse.Recipe = self.names["recipe"]
        return recipe


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    folder = tmp_path_factory.mktemp("notebook")
    model = write_tiny_model(folder / "model")
    write_tiny_task(folder / "data")
    document = {
        "name": "quickstart",
        "data": {"source": "data", "holdout_min_rows": 0},
        "task": {"name": "tiny", "text": "sentence", "labels": ["bad", "good"]},
        "teacher": {"model": str(model), "finetune": {"epochs": 2, "learning_rate": 1.0e-2}},
        "student": {"label": "two", "cut": {"of": "teacher", "layers": [1, 3]}},
        "method": ["no-kd", "vanilla-kd"],
        "train": {"epochs": 2, "learning_rate": 5.0e-3, "max_length": 16},
        "resources": {stage: {"cpus_per_worker": 1} for stage in ("finetune", "teach", "distil", "evaluate")},
    }
    (folder / "recipes").mkdir()
    (folder / "recipes" / "quickstart.yaml").write_text(yaml.safe_dump(document), "utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    before, names = Path.cwd(), {}
    os.chdir(folder)
    out, err = (folder / "out.txt").open("w+"), (folder / "err.txt").open("w+")
    try:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            exec(compile(code, "docs/notebook.md", "exec"), names)
        err.seek(0)
        out.seek(0)
        assert err.read() == "", "nothing is shown where the standard error is no terminal"
        yield Notebook(folder, names, out.read())
    finally:
        os.chdir(before)
        out.close()
        err.close()


def test_the_page_names_every_function_of_the_package() -> None:
    table = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    functions = {name for name in stillhouse.__all__ if name[0].islower()}
    assert table == functions
    assert all(getattr(stillhouse, name).__doc__ for name in stillhouse.__all__)


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = f"import json, sys, stillhouse; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_package_is_part_of_the_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "stillhouse*" in project["tool"]["setuptools"]["packages"]["find"]["include"]


def test_run_builds_returns_the_scores_and_prints_nothing(notebook: Notebook) -> None:
    scores = notebook.names["scores"]
    assert set(scores["method"]) == {"teacher", "no-kd", "vanilla-kd"} and set(scores["status"]) == {"done"}
    assert list(scores.columns) == list(stillhouse.results(notebook.recipe).columns)
    assert "delta" not in scores and notebook.printed.count("\n") == 1, "the page prints one line itself"


def test_results_are_those_of_the_command(notebook: Notebook) -> None:
    frame = stillhouse.results(notebook.recipe)
    command = [sys.executable, "-m", "pipeline", "report", "recipes/quickstart.yaml", "--format", "json"]
    done = subprocess.run(
        [*command, "--set", "seeds=[0,1]"],
        cwd=notebook.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(done.stdout)
    assert [row["score"] for row in rows] == pytest.approx(list(frame["score"]))
    assert [row["artifact"] for row in rows] == list(frame["artifact"])


def test_after_a_run_the_plan_reuses_everything(notebook: Notebook) -> None:
    frame = stillhouse.plan(notebook.recipe)
    assert set(frame["action"]) == {"reuse"} and frame["rows"].notna().all()
    forced = stillhouse.plan(notebook.recipe, stage="evaluate")
    assert set(forced[forced["action"] == "build"]["stage"]) == {"evaluate"}


def test_a_comparison_has_the_difference_of_the_means(notebook: Notebook) -> None:
    frame = notebook.names["compared"]
    means = frame.groupby("method")["score"].mean()
    deltas = frame[frame["method"] == "vanilla-kd"]["delta"]
    assert list(deltas) == pytest.approx([means["vanilla-kd"] - means["no-kd"]] * len(deltas))
    assert set(frame["baseline"].dropna()) == {"no-kd"}


def test_a_history_has_a_row_for_each_epoch(notebook: Notebook) -> None:
    frame = notebook.names["epochs"]
    directory = Path(stillhouse.load_student("vanilla-kd/two/0", notebook.recipe).directory)
    stored = json.loads((directory.parent / "history.json").read_text("utf-8"))["epochs"]
    assert list(frame["loss"]) == [epoch["loss"] for epoch in stored] and list(frame["epoch"]) == [1, 2]


def test_a_student_predicts_what_its_evaluation_stored(notebook: Notebook) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(notebook.folder / "data" / "tiny" / "validation.parquet").to_pylist()
    frame = stillhouse.predict(notebook.names["student"], [row["sentence"] for row in rows])
    labels = [["bad", "good"][row["label"]] for row in rows]
    accuracy = 100 * (frame["prediction"] == labels).mean()
    scores = stillhouse.results(notebook.recipe)
    own = scores[(scores["method"] == "vanilla-kd") & (scores["seed"] == 0)]
    assert [accuracy] == pytest.approx(list(own["score"]))
    assert frame[["probability_bad", "probability_good"]].sum(axis=1).to_list() == pytest.approx([1.0] * len(rows))
    assert stillhouse.predict(notebook.names["student"], []).empty


def test_a_student_has_its_model_and_what_belongs_to_it(notebook: Notebook) -> None:
    student = notebook.names["student"]
    assert student.model.config.num_hidden_layers == 2 and not student.model.training
    assert (student.labels, student.max_length) == (("bad", "good"), 16)
    assert student.tokenizer("a film").input_ids
    assert stillhouse.load_student(student.directory).labels == student.labels


def test_an_export_is_checked_and_its_latency_measured_beside_the_teacher(notebook: Notebook) -> None:
    exported = notebook.names["exported"]
    assert exported.folder.name == "student-int8" and exported.report["check"]["rows"] == 32
    assert (notebook.folder / "student-int8" / "model.onnx").is_file()
    assert isinstance(stillhouse.predict(notebook.folder / "student-int8", ["dull"]), pd.DataFrame)
    frame = stillhouse.latency(notebook.names["student"], batches=[2])
    assert set(frame["runtime"]) == {"PyTorch"} and frame["model"].iloc[0] == "teacher"


def test_a_recipe_may_be_a_mapping_of_its_keys(notebook: Notebook) -> None:
    document = yaml.safe_load((notebook.folder / "recipes" / "quickstart.yaml").read_text("utf-8"))
    document["seeds"] = [0, 1]
    assert set(stillhouse.plan(document)["action"]) == {"reuse"}
    changed = stillhouse.load_recipe(document, {"train.learning_rate": 1e-5, "method": ["no-kd"]})
    assert changed.tasks[0].train.learning_rate == 1e-5
    assert stillhouse.load_recipe(document, ["train.learning_rate=1.0e-5", "method=[no-kd]"]) == changed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: stillhouse.load_recipe("recipes/none.yaml"), "recipes/none.yaml"),
        (lambda one: stillhouse.load_recipe(one.recipe, {"train.epochs": 1}), "source"),
        (lambda _: stillhouse.load_recipe("recipes/quickstart.yaml", "train.epochs=1"), "sets"),
        (lambda _: stillhouse.load_recipe("recipes/quickstart.yaml", {"train.epoch": 1}), "did you mean epochs"),
        (lambda one: stillhouse.run(one.recipe, inline=True, address="auto"), "--inline"),
        (lambda one: stillhouse.compare(one.recipe, "vanila"), "did you mean vanilla-kd"),
        (lambda one: stillhouse.load_student("vanila-kd", one.recipe), "did you mean vanilla-kd"),
        (lambda one: stillhouse.load_student("no-kd", one.recipe, "runs"), "storage"),
        (lambda one: stillhouse.history(one.folder / "model"), "no history"),
        (lambda one: stillhouse.predict(one.names["student"], "a text"), "list of texts"),
        (lambda one: stillhouse.predict(one.names["student"], ["fine", None]), "texts[1]: None"),
        (lambda one: stillhouse.export(one.names["student"], "tflite"), "to: tflite"),
        (lambda one: stillhouse.export(one.names["student"], "onnx", "student-int8"), "exists"),
        (lambda _: stillhouse.latency(), "models"),
        (lambda one: stillhouse.latency(one.names["student"], batches=[0]), "batches"),
    ],
)
def test_a_wrong_request_raises_one_line_that_names_the_field(notebook: Notebook, call: Any, message: str) -> None:
    with pytest.raises(stillhouse.RequestError) as raised:
        call(notebook)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_failed_stage_is_raised_when_the_others_are_done(notebook: Notebook) -> None:
    document = yaml.safe_load((notebook.folder / "recipes" / "quickstart.yaml").read_text("utf-8"))
    recipe = stillhouse.load_recipe(document, {"train.learning_rate": 1e9, "method": ["no-kd"]})
    with pytest.raises(stillhouse.RunFailed) as raised:
        stillhouse.run(recipe, inline=True)
    assert "distil/no-kd/two/0@tiny" in raised.value.failures
    assert "failed" in set(stillhouse.results(recipe)["status"])
