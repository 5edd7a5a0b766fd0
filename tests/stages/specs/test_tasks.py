"""The tasks agree with the benchmark, with the hub, and with the data."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from stages.corpus.task_files import task_files
from stages.files.kinds import parquet_rows
from stages.specs.tasks import BUILT_IN, GLUE, HUB, Task, hub_set

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "../shared/data"))


@pytest.fixture
def data() -> Path:
    if not (DATA / "manifest.json").is_file():
        pytest.skip(f"no data in {DATA}; set STILLHOUSE_DATA")
    return DATA


def test_built_in_tasks_are_glue_the_minimax_tasks_named_entities_and_the_generated_one() -> None:
    glue = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"}
    assert set(GLUE) == glue
    assert set(BUILT_IN) == glue | {"sst5", "sst2_sentences", "cr", "imp", "trec", "reviews", "conll2003"}
    assert all(task.name == name for name, task in BUILT_IN.items())


def test_headline_metrics_are_those_of_the_slides() -> None:
    headlines = {name: task.primary for name, task in BUILT_IN.items()}
    others = {name: metric for name, metric in headlines.items() if name not in {"cola", "mrpc", "stsb", "conll2003"}}
    assert (headlines["cola"], headlines["mrpc"], headlines["stsb"]) == ("matthews", "f1", "pearson")
    assert set(others.values()) == {"accuracy"}


def test_mrpc_leads_with_f1_and_selects_the_epoch_by_accuracy_and_all_other_tasks_select_by_their_headline() -> None:
    assert (BUILT_IN["mrpc"].primary, BUILT_IN["mrpc"].select) == ("f1", "accuracy")
    assert (BUILT_IN["qqp"].primary, BUILT_IN["qqp"].select) == ("accuracy", None)
    assert BUILT_IN["mrpc"].metric_names == "f1, accuracy (selects epochs)"
    assert {name for name, task in BUILT_IN.items() if task.select not in (None, task.primary)} == {"mrpc"}


def test_paraphrase_tasks_report_f1_and_accuracy() -> None:
    assert set(BUILT_IN["mrpc"].metrics) == set(BUILT_IN["qqp"].metrics) == {"f1", "accuracy"}


def test_mnli_is_evaluated_matched_and_mismatched_and_its_labels_are_in_the_order_of_the_hub() -> None:
    mnli = BUILT_IN["mnli"]
    assert mnli.dev == ("validation_matched", "validation_mismatched")
    assert mnli.labels == ("entailment", "neutral", "contradiction")


def test_stsb_is_the_only_regression_and_has_one_output() -> None:
    assert [name for name, task in BUILT_IN.items() if task.regression] == ["stsb"]
    assert BUILT_IN["stsb"].outputs == 1
    assert BUILT_IN["trec"].outputs == 6


def test_a_task_without_a_dev_split_gets_one_called_validation() -> None:
    assert BUILT_IN["imp"].dev == ()
    assert BUILT_IN["imp"].dev_splits == ("validation",)
    assert BUILT_IN["mnli"].dev_splits == BUILT_IN["mnli"].dev


def test_tasks_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        BUILT_IN["cola"].name = "other"
    with pytest.raises(TypeError):
        BUILT_IN["mine"] = BUILT_IN["cola"]  # type: ignore[index]


def test_glue_lies_in_one_hub_repository_with_a_config_a_task() -> None:
    assert {(HUB[name].repository, HUB[name].config) for name in GLUE} == {("nyu-mll/glue", name) for name in GLUE}


def test_the_error_for_imp_names_the_missing_hub_data_set() -> None:
    with pytest.raises(ValueError, match=r"hub has no data set for imp; give a folder"):
        hub_set("imp")


def test_the_error_for_reviews_on_the_hub_names_the_generator() -> None:
    with pytest.raises(ValueError, match="hub has no reviews, which is generated"):
        hub_set("reviews")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metrics": ("pearson",)}, "pearson does not fit a classification"),
        ({"labels": None}, "accuracy does not fit a regression"),
        ({"labels": ("a", "b", "c"), "metrics": ("f1",)}, "use macro_f1"),
        ({"labels": ("a",)}, "at least 2 different names"),
        ({"labels": ("a", "a")}, "at least 2 different names"),
        ({"text": ("a", "a")}, "must be different columns"),
        ({"text": ("label",)}, "must be different columns"),
        ({"text": ("input_ids",)}, "rename the column"),
        ({"test": ("validation",)}, "must be different"),
        ({"dev": ("holdout",)}, "none of them train or holdout"),
        ({"dev": (), "test": ("validation",)}, "must be different"),
        ({"name": "../up"}, "name"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(fields: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"name": "mine", "text": ("a",), "labels": ("no", "yes")}
    assert Task.model_validate(good).primary == "accuracy"
    with pytest.raises(ValidationError, match=message):
        Task.model_validate({**good, **fields})


@pytest.mark.data
@pytest.mark.parametrize("name", [*GLUE, "sst5", "sst2_sentences", "imp"])
def test_real_data_has_every_split_and_label_of_the_task(data: Path, name: str) -> None:
    task, manifest = BUILT_IN[name], json.loads((data / "manifest.json").read_text())["files"]
    for split, path in task_files(data, task).items():
        stated = manifest[path.relative_to(data).as_posix()]
        assert parquet_rows(path) == stated["rows"], split
        assert {*task.text, task.label} <= set(stated["columns"])
        if not task.regression and stated["labels"] != {"-1": stated["rows"]}:
            assert set(stated["labels"]) == {str(number) for number in range(task.outputs)}, split
