"""``report --baseline``: methods compared with one of them, on predictions that are written without training."""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from project import CommandResult, Project, graph_in, record_for, stillhouse, tiny_recipe, write_plannable_assets

from pipeline.graph.nodes import Edge, Node, ReportedModel
from pipeline.recipe import load
from pipeline.report.rows import task_of
from stages.evaluation.predictions import Rows, last_predictions_path, predictions_path, scored, write_predictions

COMPARED = ("baseline", "delta", "low", "high", "p", "p_raw", "within", "gap_closed", "seeds_compared")
ROWS = 400
METHODS = ("no-kd", "vanilla-kd", "alp")

ErrorRate = Callable[[str, ReportedModel, str], float | None]
"""Task, model and split -> the share of rows that it predicts wrongly; None where it is not evaluated."""


@dataclass
class Written:
    """A recipe with evaluations that were written, not computed. ``wrong`` has, for each model and split, which rows it
    predicts wrongly."""

    folder: Path
    wrong: dict[tuple[str, ReportedModel, str], np.ndarray] = field(default_factory=dict)

    def __call__(self, *options: str) -> CommandResult:
        return stillhouse("report", str(self.folder / "recipe.yaml"), "--storage", str(self.folder / "runs"), *options)

    def rows(self, *options: str) -> list[dict[str, object]]:
        result = self("--format", "json", *options)
        assert (result.code, result.err) == (0, "")
        found: list[dict[str, object]] = json.loads(result.out)
        return found


def written(
    folder: Path,
    error_rate: ErrorRate,
    tasks: Sequence[str] = ("tiny",),
    last: ErrorRate | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
    **changes: object,
) -> Written:
    """Write a recipe and an evaluation of each of its models, on dev, or on ``splits`` of each task."""
    found, assets = Written(folder), write_plannable_assets(folder / "assets", tuple(tasks))
    blocks = [
        {"name": task, "text": "sentence", "labels": ["bad", "good"], "metric": ["accuracy", "f1"]} for task in tasks
    ]
    recipe = {"task": blocks, "method": list(METHODS), "seeds": [0, 1, 2], **changes}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tiny_recipe(assets, **recipe)), "utf-8")
    graph = graph_in(folder / "runs", load(folder / "recipe.yaml", (), str(folder / "runs")))
    draw = np.random.default_rng(0)
    trainings: dict[str, tuple[Node, Path]] = {}
    for node in graph.wanted:
        if node.role != "evaluate" or node.subject is None or error_rate(node.task, node.subject, "validation") is None:
            continue
        out, scores = artifact_of(folder, node), {}
        for split in splits[node.task] if splits else task_of(node).dev_splits:
            rate = error_rate(node.task, node.subject, split)
            assert rate is not None
            wrong = draw.random(ROWS) < rate
            found.wrong[node.task, node.subject, split] = wrong
            scores[split] = write(predictions_path(out, split), node, wrong)
        commit(node, out, scores=scores, parameters=5, latency_ms=1.0)
        given = node.inputs["model"]
        if last is not None and isinstance(given, Edge):
            rate = last(node.task, node.subject, "validation")
            training = artifact_of(folder, given.source)
            if rate is not None:
                write(last_predictions_path(training, "validation"), node, draw.random(ROWS) < rate)
            trainings[given.source.key] = given.source, training
    for node, out in trainings.values():
        commit(node, out, last_epoch_scores={}, train_seconds=1.0, best_epoch=1)
    return found


def artifact_of(folder: Path, node: Node) -> Path:
    out = folder / "runs" / node.spec.stage / node.key / "0001"
    out.mkdir(parents=True, exist_ok=True)
    return out


def write(path: Path, node: Node, wrong: np.ndarray) -> Mapping[str, float]:
    """Write predictions that are wrong on these rows. Returns their scores."""
    labels = np.arange(ROWS) % 2
    logits = np.eye(task_of(node).outputs, dtype=np.float32)[np.where(wrong, 1 - labels, labels)]
    rows = Rows(np.arange(ROWS), [number.to_bytes(16, "big") for number in range(ROWS)], labels, np.ones(ROWS, bool))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, task_of(node), rows, logits)
    return scored(task_of(node), logits, labels, np.ones(ROWS, bool))


def commit(node: Node, out: Path, **facts: object) -> None:
    (out.parent / "record.json").write_text(json.dumps(asdict(record_for(node, out, **facts))), "utf-8")


def by_method(error_rates: Mapping[str, float | None]) -> ErrorRate:
    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        return error_rates[model.method]

    return error_rate


USUAL = {"teacher": 0.05, "no-kd": 0.30, "vanilla-kd": 0.29, "alp": 0.15}
"""One method is much better than the baseline, and one hardly."""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One task, one metric of which is the headline."""
    return written(tmp_path_factory.mktemp("usual"), by_method(USUAL))


def one(rows: Sequence[Mapping[str, object]], **wanted: object) -> Mapping[str, object]:
    """The row with these values."""
    (found,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return found


# --- rows -----------------------------------------------------------------------------------------


def test_every_row_of_another_method_repeats_its_comparison_over_seeds(usual: Written) -> None:
    rows = usual.rows("--baseline", "no-kd")
    for method in ("vanilla-kd", "alp"):
        for metric in ("accuracy", "f1"):
            own = [row for row in rows if (row["method"], row["metric"]) == (method, metric)]
            assert [row["seed"] for row in own] == [0, 1, 2]
            assert len({tuple(row[name] for name in COMPARED) for row in own}) == 1
            other = [row for row in rows if (row["method"], row["metric"]) == ("no-kd", metric)]
            mean, baseline = (statistics.fmean(float(str(row["score"])) for row in some) for some in (own, other))
            assert own[0]["delta"] == pytest.approx(mean - baseline)
            teacher = float(str(own[0]["teacher_score"]))
            assert own[0]["gap_closed"] == pytest.approx(100 * (mean - baseline) / (teacher - baseline))
            assert (own[0]["baseline"], own[0]["seeds_compared"]) == ("no-kd", 3)


def test_the_baseline_and_the_teacher_are_not_compared(usual: Written) -> None:
    for row in usual.rows("--baseline", "no-kd"):
        if row["method"] in ("teacher", "no-kd"):
            assert {row[name] for name in COMPARED} == {None}


def test_without_a_baseline_nothing_is_compared_and_scores_are_the_same(usual: Written) -> None:
    plain, compared = usual.rows(), usual.rows("--baseline", "no-kd")
    assert {row[name] for row in plain for name in COMPARED} == {None}
    for one_row, other in zip(plain, compared, strict=True):
        assert {**other, **dict.fromkeys(COMPARED)} == one_row


def test_p_values_are_adjusted_for_the_methods_that_are_compared(usual: Written) -> None:
    rows = [row for row in usual.rows("--baseline", "no-kd") if row["seed"] == 0 and row["metric"] == "accuracy"]
    lower, higher = one(rows, method="alp"), one(rows, method="vanilla-kd")
    assert lower["p"] == 2 * float(str(lower["p_raw"]))
    assert higher["p"] == higher["p_raw"]
    assert float(str(lower["p"])) < 0.05 < float(str(higher["p"]))


def test_the_interval_is_that_of_the_predictions(usual: Written) -> None:
    """For one seed, whose interval is that of a paired comparison of the rows."""
    for seed in range(3):
        option = ("--set", f"seeds=[{seed}]")
        row = one(usual.rows("--baseline", "no-kd", *option), method="vanilla-kd", metric="accuracy")
        own, other = (
            usual.wrong["tiny", ReportedModel(method, "two", seed), "validation"] for method in ("vanilla-kd", "no-kd")
        )
        differences = 100.0 * other - 100.0 * own
        error = differences.std() / math.sqrt(ROWS)
        assert row["delta"] == pytest.approx(differences.mean())
        assert (float(str(row["high"])) - float(str(row["low"]))) / 2 == pytest.approx(1.96 * error, rel=0.05)
        assert row["seeds_compared"] == 1


def test_csv_has_the_rows_of_json(usual: Written) -> None:
    rows = list(csv.DictReader(io.StringIO(usual("--format", "csv", "--baseline", "no-kd").out)))
    expected = usual.rows("--baseline", "no-kd")
    assert rows == [
        {name: "" if value is None else str(value) for name, value in row.items() if name != "measurements"}
        for row in expected
    ]


def test_a_teacher_as_the_baseline_is_the_same_for_every_seed(usual: Written) -> None:
    rows = usual.rows("--baseline", "teacher")
    row = one(rows, method="alp", metric="accuracy", seed=1)
    assert row["delta"] == pytest.approx(-10, abs=3)
    assert (row["seeds_compared"], row["gap_closed"]) == (3, None), "there is no way left to the teacher"


def test_two_names_of_one_training_do_not_differ_at_all(tmp_path: Path) -> None:
    same = {"use": "vanilla-kd", "label": "same"}
    project = written(
        tmp_path, by_method({"teacher": 0.1, "vanilla-kd": 0.2, "same": 0.2}), method=["vanilla-kd", same]
    )
    row = one(project.rows("--baseline", "vanilla-kd"), method="same", metric="accuracy", seed=0)
    assert [row[name] for name in ("delta", "low", "high", "p", "within")] == [0.0, 0.0, 0.0, 1.0, 0.0]


# --- seeds and tasks ------------------------------------------------------------------------------


def test_seeds_that_one_of_the_two_lacks_are_left_out(tmp_path: Path) -> None:
    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        missing = (model.method, model.seed) in (("no-kd", 1), ("alp", 2)) or model.method == "vanilla-kd"
        return None if missing else USUAL[model.method]

    project = written(tmp_path, error_rate)
    rows = project.rows("--baseline", "no-kd")
    for seed in range(3):
        row = one(rows, method="alp", metric="accuracy", seed=seed)
        assert row["seeds_compared"] == 1, "seed 0 alone is there for both"
        nothing = one(rows, method="vanilla-kd", metric="accuracy", seed=seed)
        assert (nothing["baseline"], nothing["delta"], nothing["p"]) == ("no-kd", None, None)
    line = next(line for line in project("--baseline", "no-kd").out.splitlines() if "validation accuracy:" in line)
    assert "compared over 1 seed; so differences between trainings are not in the interval" in line
    assert line.endswith("not compared, for want of predictions: vanilla-kd")


def test_rows_of_the_task_mean_compare_over_tasks(tmp_path: Path) -> None:
    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        better = 0.04 if model.method == "alp" else 0.0
        return USUAL["teacher"] if model.method == "teacher" else (0.2 if task == "one" else 0.3) - better

    project = written(tmp_path, error_rate, tasks=("one", "two"))
    rows = project.rows("--baseline", "no-kd")
    mean = one(rows, task="mean", method="alp")
    of_tasks = [one(rows, task=task, method="alp", metric="accuracy", seed=0) for task in ("one", "two")]
    assert (mean["seed"], mean["split"], mean["metric"], mean["status"]) == (None, "dev", "headline", "done")
    assert mean["delta"] == pytest.approx(statistics.fmean(float(str(row["delta"])) for row in of_tasks))
    assert (mean["seeds_compared"], mean["tasks_compared"]) == (3, 2)
    width, *widths = (float(str(row["high"])) - float(str(row["low"])) for row in (mean, *of_tasks))
    assert width < max(widths), "the mean over tasks is known better than a single task"
    baseline = one(rows, task="mean", method="no-kd")
    assert float(str(mean["score"])) - float(str(baseline["score"])) == pytest.approx(mean["delta"])
    assert [row["method"] for row in rows if row["task"] == "mean"] == ["teacher", *METHODS]
    assert not [row for row in project.rows() if row["task"] == "mean"]
    lines = project("--baseline", "no-kd").out.splitlines()
    (line,) = [line for line in lines if line.startswith(" mean of 2 tasks  alp ")]
    assert f"{mean['delta']:+.1f} [{mean['low']:+.1f}, {mean['high']:+.1f}] *" in line


def test_only_methods_that_every_task_has_are_compared_over_tasks(tmp_path: Path) -> None:
    """``alp`` is not in task three: two tasks of three would be another mean than that of ``vanilla-kd``."""
    project = written(
        tmp_path,
        by_method(USUAL),
        tasks=("one", "two", "three"),
        overrides={"three": {"method": ["no-kd", "vanilla-kd"]}},
    )
    rows = project.rows("--baseline", "no-kd")
    assert one(rows, task="two", method="alp", metric="accuracy", seed=0)["delta"] is not None
    assert [row["method"] for row in rows if row["task"] == "mean"] == ["teacher", "no-kd", "vanilla-kd"]
    mean, baseline = (one(rows, task="mean", method=method) for method in ("vanilla-kd", "no-kd"))
    assert (mean["tasks_compared"], mean["p"]) == (3, mean["p_raw"]), "it is compared alone"
    assert float(str(mean["score"])) - float(str(baseline["score"])) == pytest.approx(mean["delta"])
    lines = project("--baseline", "no-kd").out.splitlines()
    assert not [line for line in lines if line.startswith(" mean of 2 tasks")]
    (line,) = [line for line in lines if line.startswith("mean of 3 tasks, two, dev headline: compared over 3 seeds; ")]
    assert line.endswith("; three has no method alp")


def test_a_task_without_the_baseline_as_a_method_is_named(tmp_path: Path) -> None:
    project = written(
        tmp_path,
        by_method(USUAL),
        tasks=("one", "two", "three"),
        overrides={"two": {"method": ["vanilla-kd", "alp"]}},
    )
    lines = project("--baseline", "no-kd").out.splitlines()
    assert "two, two, validation accuracy: two has no method no-kd" in lines
    assert "mean of 3 tasks, two, dev headline: two has no method no-kd" in lines
    assert not [line for line in lines if "for want of predictions" in line]
    assert [line for line in lines if line.startswith("three, two, validation accuracy: compared over 3 seeds; ")]
    rows = project.rows("--baseline", "no-kd")
    means = [row for row in rows if row["task"] == "mean" and row["method"] in ("vanilla-kd", "alp")]
    assert [(row["delta"], row["tasks_compared"]) for row in means] == [(None, None)] * 2


def test_test_splits_with_labels_are_compared_over_tasks_where_every_task_has_them(tmp_path: Path) -> None:
    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        worse_on_test = 0.1 if split == "test" else 0.0
        return USUAL[model.method] + worse_on_test

    splits = {"one": ("validation", "test"), "two": ("validation", "test")}
    project = written(tmp_path / "both", error_rate, tasks=("one", "two"), splits=splits)
    rows = project.rows("--baseline", "no-kd")
    for split, name in (("dev", "validation"), ("test", "test")):
        family = [row for row in rows if (row["task"], row["split"]) == ("mean", split)]
        assert [row["method"] for row in family] == ["teacher", *METHODS]
        mean = one(family, method="alp")
        of_tasks = [
            one(rows, task=task, method="alp", metric="accuracy", seed=0, split=name) for task in ("one", "two")
        ]
        assert mean["delta"] == pytest.approx(statistics.fmean(float(str(row["delta"])) for row in of_tasks))
        assert (mean["metric"], mean["seeds_compared"], mean["tasks_compared"]) == ("headline", 3, 2)
        p_values = [float(str(one(family, method=method)["p_raw"])) for method in ("vanilla-kd", "alp")]
        assert mean["p"] == 2 * min(p_values), "adjusted for the two methods on this split alone"
    lines = project("--baseline", "no-kd").out.splitlines()
    assert [line for line in lines if line.startswith(" mean of 2 tasks  alp ") and " test headline " in line]
    assert [line for line in lines if line.startswith("mean of 2 tasks, two, test headline: compared over 3 seeds; ")]
    project = written(tmp_path / "one", error_rate, tasks=("one", "two"), splits={**splits, "two": ("validation",)})
    means = [row["split"] for row in project.rows("--baseline", "no-kd") if row["task"] == "mean"]
    assert set(means) == {"dev"}


def test_a_comparison_over_two_seeds_says_that_its_interval_may_be_too_narrow(usual: Written) -> None:
    lines = usual("--baseline", "no-kd", "--set", "seeds=[0, 1]").out.splitlines()
    (line,) = [line for line in lines if line.startswith("tiny, two, validation accuracy: ")]
    warning = "compared over 2 seeds; an interval over 2 seeds may be too narrow: it contains the truth in 86 to 97 %"
    assert warning in line
    assert "too narrow" not in usual("--baseline", "no-kd").out


def test_dev_splits_of_a_task_count_once_in_the_mean_over_tasks(tmp_path: Path) -> None:
    splits = {"validation": 0.2, "validation_matched": 0.1, "validation_mismatched": 0.3}

    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        return splits[split] + (0.1 if model.method == "no-kd" else 0.0)

    data = write_plannable_assets(tmp_path / "assets", ("one",)) / "data"
    (data / "mnli").mkdir()
    for split in ("train", "validation_matched", "validation_mismatched"):
        texts = [f"{split} {number}" for number in range(90)]
        table = pa.table({"premise": texts, "hypothesis": texts, "label": [0, 1, 2] * 30})
        pq.write_table(table, data / "mnli" / f"{split}.parquet")
    one_task = {"name": "one", "text": "sentence", "labels": ["bad", "good"]}
    project = written(tmp_path / "project", error_rate, task=["mnli", one_task], data={"source": str(data)})
    rows = project.rows("--baseline", "no-kd")
    delta = {
        row["split"]: float(str(row["delta"]))
        for row in rows
        if row["method"] == "alp" and row["seed"] == 0 and row["metric"] == "accuracy"
    }
    assert set(delta) == set(splits)
    expected = (delta["validation"] + (delta["validation_matched"] + delta["validation_mismatched"]) / 2) / 2
    assert one(rows, task="mean", method="alp")["delta"] == pytest.approx(expected)


def test_a_method_that_a_task_lacks_has_no_comparison_over_tasks(tmp_path: Path) -> None:
    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        return None if (task, model.method) == ("two", "alp") else 0.2

    rows = written(tmp_path, error_rate, tasks=("one", "two")).rows("--baseline", "no-kd")
    assert [row["method"] for row in rows if row["task"] == "mean"] == ["teacher", "no-kd", "vanilla-kd"]


def test_a_task_in_which_the_baseline_failed_leaves_no_comparison_over_tasks(tmp_path: Path) -> None:
    def error_rate(task: str, model: ReportedModel, split: str) -> float | None:
        return None if (task, model.method) == ("two", "no-kd") else 0.2

    rows = written(tmp_path, error_rate, tasks=("one", "two", "three")).rows("--baseline", "no-kd")
    assert one(rows, task="three", method="alp", metric="accuracy", seed=0)["delta"] is not None
    mean = one(rows, task="mean", method="alp")
    assert (mean["baseline"], mean["delta"], mean["tasks_compared"]) == ("no-kd", None, None)


def test_the_last_epochs_are_compared_where_their_predictions_are_stored(tmp_path: Path) -> None:
    last = {"teacher": 0.05, "no-kd": 0.15, "vanilla-kd": 0.3, "alp": None}
    project = written(tmp_path, by_method(USUAL), last=by_method(last))
    rows = project.rows("--baseline", "no-kd", "--last-epoch")
    row = one(rows, method="vanilla-kd", metric="accuracy", seed=0)
    assert (row["delta"], row["seeds_compared"]) == (pytest.approx(-15, abs=4), 3)
    assert one(rows, method="alp", metric="accuracy", seed=0)["delta"] is None
    table = project("--baseline", "no-kd", "--last-epoch").out
    assert "not compared, for want of predictions: alp" in table


# --- the table and the page -----------------------------------------------------------------------


def test_the_table_marks_a_winner_and_says_what_could_not_be_told_apart(usual: Written) -> None:
    lines = usual("--baseline", "no-kd").out.splitlines()
    (head,) = [line for line in lines if "vs no-kd" in line]
    assert "gap closed" in head
    marked = [line.split()[1] for line in lines if line.startswith(" tiny ") and "] *" in line]
    assert marked == ["alp", "alp"], "for both metrics"
    assert [line for line in lines if line.startswith("* scores higher than no-kd")]
    (line,) = [line for line in lines if line.startswith("tiny, two, validation accuracy: ")]
    within = one(usual.rows("--baseline", "no-kd"), method="vanilla-kd", metric="accuracy", seed=0)["within"]
    bound = f"vanilla-kd (|difference| < {within:.1f} points at 95 %)"
    assert line.endswith(f"compared over 3 seeds; no difference from no-kd found: {bound}")


def test_nothing_is_marked_where_nothing_is_found(tmp_path: Path) -> None:
    project = written(tmp_path, by_method({"teacher": 0.05, "no-kd": 0.2, "vanilla-kd": 0.2, "alp": 0.2}))
    assert not [line for line in project("--baseline", "no-kd").out.splitlines() if "*" in line]
    assert 'class="winner"' not in project("--baseline", "no-kd", "--format", "html").out


def test_a_method_that_is_found_to_be_worse_is_no_winner(usual: Written) -> None:
    lines = usual("--baseline", "alp").out.splitlines()
    for method in ("no-kd", "vanilla-kd"):
        assert all("] (lower)" in line for line in lines if line.startswith(f" tiny  {method} "))
    assert not [line for line in lines if "*" in line]


def test_the_page_has_the_columns_and_lines_of_the_table(usual: Written) -> None:
    page = usual("--baseline", "no-kd", "--format", "html").out
    assert '<em title="scores higher than no-kd">' in page and "% of the gap closed" in page
    assert page.count('<td class="n winner"') == 2
    assert "no difference from no-kd found: vanilla-kd (|difference| &lt; " in page


def test_a_table_without_a_baseline_has_no_columns_for_one(usual: Written) -> None:
    assert "gap closed" not in usual().out
    assert "gap closed" not in usual("--format", "html").out


def test_the_same_report_is_the_same_text(usual: Written) -> None:
    assert usual.rows("--baseline", "no-kd") == usual.rows("--baseline", "no-kd")


# --- wrong requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("no-kdd", "no-kdd is no method of this recipe; did you mean no-kd? Known: teacher, no-kd, vanilla-kd, alp"),
        ("xyzzy", "xyzzy is no method of this recipe; known: alp, no-kd, teacher, vanilla-kd"),
    ],
)
def test_a_baseline_that_the_recipe_does_not_have_is_refused_with_its_methods(
    usual: Written, name: str, line: str
) -> None:
    assert usual("--baseline", name) == CommandResult(2, "", f"stillhouse: --baseline: {line}\n")


def test_the_last_epoch_without_a_baseline_is_refused(usual: Written) -> None:
    line = "stillhouse: --last-epoch: only a comparison has a choice of epochs; give --baseline METHOD, too\n"
    assert usual("--last-epoch") == CommandResult(2, "", line)


def test_predictions_that_are_damaged_are_named(tmp_path: Path) -> None:
    project = written(tmp_path, by_method(USUAL))
    for path in (tmp_path / "runs").glob("evaluate/*/0001/predictions/validation.parquet"):
        path.write_bytes(bytes(path.stat().st_size))
    result = project("--baseline", "no-kd")
    assert result.code == 2
    assert "validation.parquet: cannot be read" in result.err
    assert result.err.endswith("; run the recipe again\n")
    assert project().code == 0, "a report without a comparison does not read them"


def test_a_run_leaves_what_a_comparison_needs(built: Project) -> None:
    rows = built.rows("--baseline", "no-kd")
    scores = {(row["method"], row["seed"]): float(str(row["score"])) for row in rows}
    own, other = ([scores[method, seed] for seed in (0, 1)] for method in ("vanilla-kd", "no-kd"))
    row = one(rows, method="vanilla-kd", seed=0)
    assert row["delta"] == pytest.approx(statistics.fmean(own) - statistics.fmean(other))
    assert (row["seeds_compared"], row["baseline"]) == (2, "no-kd")
