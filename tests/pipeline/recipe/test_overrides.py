"""Overrides by task, changes from the command line, and resources of the cluster."""

from typing import Any

import pytest

from pipeline.recipe import STAGES, Recipe, ResourceBlock, TaskRecipe, parse
from stages.specs.student import Train

SMALLEST: dict[str, Any] = {
    "name": "small",
    "task": "sst2",
    "teacher": {"model": "big"},
    "student": {"model": "little"},
    "method": "vanilla-kd",
}


def read(*sets: str, **keys: Any) -> Recipe:
    return parse({**SMALLEST, **keys}, sets)


def by_name(recipe: Recipe) -> dict[str, TaskRecipe]:
    return {one.task.name: one for one in recipe.tasks}


def test_overrides_merge_key_by_key_for_their_task_alone() -> None:
    recipe = read(
        task=["sst2", "mrpc"], train={"epochs": 9, "warmup": 0.2}, overrides={"mrpc": {"train": {"epochs": 30}}}
    )
    assert recipe.tasks[0].train == Train(epochs=9, warmup=0.2)
    expected = Train(epochs=30, warmup=0.2, select_metric="accuracy")
    assert recipe.tasks[1].train == recipe.tasks[1].methods[0].train == expected


def test_a_students_override_is_merged_into_every_student() -> None:
    students = [{"label": "a", "model": "x"}, {"label": "b", "model": "y"}]
    recipe = read(task=["rte", "mnli"], student=students, overrides={"rte": {"student": {"start": "mnli"}}})
    assert [(one.label, one.model, one.start) for one in recipe.tasks[0].students] == [
        ("a", "x", "mnli"),
        ("b", "y", "mnli"),
    ]
    assert [one.start for one in recipe.tasks[1].students] == [None, None]


def test_a_list_in_overrides_replaces() -> None:
    changes = {"student": [{"model": "other"}], "seeds": [5, 6], "store": {"layers": [1]}}
    found = by_name(read(task=["rte", "mnli"], overrides={"rte": changes}))["rte"]
    assert ([one.label for one in found.students], found.seeds, found.store.layers) == (["other"], (5, 6), (1,))


def test_methods_in_overrides_may_be_named_by_their_labels() -> None:
    method = ["label-smoothing", {"use": "vanilla-kd", "label": "hot", "training": {"temperature": 9}}]
    recipe = read(task=["rte", "stsb"], method=method, overrides={"stsb": {"method": ["no-kd", "hot"]}})
    plain, hot = by_name(recipe)["stsb"].methods
    assert (plain.label, hot) == ("no-kd", by_name(recipe)["rte"].methods[1])


def test_null_takes_a_key_out() -> None:
    teacher = {"model": "big", "finetune": {"epochs": 2}}
    recipe = read(task=["sst2", "rte"], teacher=teacher, overrides={"rte": {"teacher": {"finetune": None}}})
    assert [one.teacher.finetune is None for one in recipe.tasks] == [False, True]
    assert read("data.train_rows=null", data={"train_rows": 5}) == read()


def test_set_reaches_into_blocks_and_lists_and_makes_blocks() -> None:
    recipe = read(
        "train.epochs=5", "student.1.model=z", "seeds=[1, 2]", "limits.store_bytes=1MB", "data.source='no'",
        student=[{"model": "x"}, {"model": "y"}],
    )  # fmt: skip
    only = recipe.tasks[0]
    assert (only.train.epochs, only.students[1].label, only.seeds) == (5, "z", (1, 2))
    assert (recipe.limits.store_bytes, only.data.source) == (10**6, "no")


def test_set_may_correct_an_error_of_the_file() -> None:
    assert read("train={epochs: 2}", train="wrong").tasks[0].train.epochs == 2


def test_the_storage_given_beside_the_recipe_wins() -> None:
    assert parse({**SMALLEST, "storage": "here"}, storage="s3://bucket/there").storage == "s3://bucket/there"


def test_every_stage_has_resources() -> None:
    recipe = read(resources={"distil": {"workers": 4, "gpus_per_worker": 0.5, "memory_per_worker": "1.5GB"}})
    assert tuple(recipe.resources) == STAGES
    assert recipe.resources["distil"] == ResourceBlock(workers=4, gpus_per_worker=0.5, memory_per_worker=1_500_000_000)
    assert recipe.resources["teach"] == ResourceBlock()


def test_what_else_a_worker_takes_is_named_as_the_nodes_name_it() -> None:
    block = read(resources={"distil": {"custom": {"fast_disk": 1, "accelerator_type:A100": 0.001}}}).resources["distil"]
    assert block.custom == {"fast_disk": 1.0, "accelerator_type:A100": 0.001}


@pytest.mark.parametrize(
    ("span", "seconds"), [("10m", 600.0), ("1.5h", 5400.0), ("2 d", 172800.0), (0, 0.0), (7.5, 7.5)]
)
def test_the_time_to_wait_for_nodes_has_units(span: object, seconds: float) -> None:
    assert read(limits={"pending": span}).limits.pending == seconds
    assert read().limits.pending == 600.0


@pytest.mark.parametrize(
    ("size", "expected"),
    [("50GB", 50 * 10**9), ("1 TB", 10**12), ("2kB", 2000), ("7B", 7), (123, 123), ("0.5PB", 5 * 10**14)],
)
def test_sizes_have_decimal_units(size: object, expected: int) -> None:
    assert read(limits={"store_bytes": size}).limits.store_bytes == expected
