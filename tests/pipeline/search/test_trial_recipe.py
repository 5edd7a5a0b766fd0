"""The recipe of a trial, and where an error in its values is said to lie."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import RequestError
from pipeline.recipe import load
from pipeline.recipe.yaml import Tree
from pipeline.search.trial_recipe import SearchedRecipe, read_searched


def searched(folder: Path, vary: dict[str, Tree], sets: tuple[str, ...] = (), **changes: Tree) -> SearchedRecipe:
    recipe: dict[str, Tree] = {
        "name": "small",
        "task": ["sst2", "mrpc"],
        "teacher": {"model": "big"},
        "student": {"label": "two", "model": "little"},
        "method": ["no-kd", {"use": "vanilla-kd", "train": {"batch_size": 16}}],
        "equal_steps": False,
        **changes,
        "search": {"task": "sst2", "method": "vanilla-kd", "vary": vary},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    search = load(folder / "recipe.yaml", sets).search
    assert search is not None
    return read_searched(folder / "recipe.yaml", sets, None, search)


def test_the_values_are_set_in_the_block_of_the_method_for_the_searched_task_alone(tmp_path: Path) -> None:
    vary: dict[str, Tree] = {"train.learning_rate": [1e-4], "training.temperature": [3.0]}
    found = searched(tmp_path, vary)
    recipe = found.recipe({"train.learning_rate": 1e-4, "training.temperature": 3.0})
    use = found.use(recipe)
    assert (use.train.learning_rate, use.train.batch_size) == (1e-4, 16)
    assert use.method.training.temperature == 3.0
    other = next(task for task in recipe.tasks if task.task.name == "mrpc")
    assert [one.train.learning_rate for one in other.methods] == [5e-5, 5e-5]
    assert [one.label for one in found.task(recipe).methods] == ["no-kd", "vanilla-kd"]


def test_a_method_that_a_task_has_of_its_own_is_searched_there(tmp_path: Path) -> None:
    own: Tree = {"sst2": {"method": ["no-kd", {"use": "vanilla-kd", "train": {"epochs": 9}}]}}
    found = searched(tmp_path, {"train.learning_rate": [1e-4]}, overrides=own)
    assert found.use(found.recipe({"train.learning_rate": 1e-4})).train.epochs == 9


def test_a_kind_that_is_written_as_a_text_keeps_its_name(tmp_path: Path) -> None:
    method: Tree = {"use": "vanilla-kd", "data": "minimax-knn"}
    bank: Tree = {"files": ["a.parquet"]}
    found = searched(tmp_path, {"data.k": [4]}, method=["no-kd", method], bank=bank)
    assert found.block({"data.k": 4}) == {"use": "vanilla-kd", "data": {"kind": "minimax-knn", "k": 4}}


def test_set_changes_the_recipe_of_trials_too(tmp_path: Path) -> None:
    found = searched(tmp_path, {"train.epochs": [4]}, ("train.learning_rate=3e-3",))
    assert found.use(found.recipe({"train.epochs": 4})).train.learning_rate == 3e-3


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("train.learnin_rate", 1, "search.vary.train.learnin_rate: unknown key; did you mean learning_rate?"),
        ("train.learning_rate", -1, "search.vary.train.learning_rate: -1, must be above 0"),
        ("training.temprature", 1, "search.vary.training.temprature: unknown key of one-phase; did you mean temperatu"),
        ("train.epochs", 1.5, "search.vary.train.epochs: 1.5, must be a whole number"),
        ("taught_by", "tutor", "search.vary.taught_by"),
    ],
)
def test_an_error_in_a_value_is_placed_in_the_search(tmp_path: Path, path: str, value: Tree, line: str) -> None:
    found = searched(tmp_path, {path: [value]})
    with pytest.raises(RequestError) as refused:
        found.recipe({path: value})
    assert str(refused.value).startswith(line)


def test_an_error_elsewhere_names_the_values_that_lead_to_it(tmp_path: Path) -> None:
    found = searched(tmp_path, {"train.epochs": [7]}, equal_steps=True, method=["no-kd", "vanilla-kd"])
    with pytest.raises(RequestError) as refused:
        found.recipe({"train.epochs": 7})
    assert str(refused.value).startswith("search.vary: with train.epochs 7: ")
    assert "compare methods at equal steps, or set equal_steps: false" in str(refused.value)
