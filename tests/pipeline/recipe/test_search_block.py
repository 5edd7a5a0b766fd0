"""The block ``search`` of a recipe: defaults, both ways to write a path, and what is refused while reading."""

import pytest

from pipeline.errors import RequestError
from pipeline.recipe import SearchSettings, ValueList, ValueRange, parse
from pipeline.recipe.yaml import Tree

RATES: dict[str, Tree] = {"train.learning_rate": [1.0e-4, 2.0e-4]}


def search_of(search: dict[str, Tree], **changes: Tree) -> SearchSettings:
    recipe: dict[str, Tree] = {
        "name": "small",
        "task": "sst2",
        "teacher": {"model": "big"},
        "student": {"label": "two", "model": "little"},
        "method": "vanilla-kd",
        **changes,
        "search": {"vary": dict(RATES), **search},
    }
    found = parse(recipe).search
    assert found is not None
    return found


def test_a_recipe_of_one_task_method_and_student_needs_nothing_but_what_varies() -> None:
    found = search_of({})
    assert (found.task, found.method, found.student) == ("sst2", "vanilla-kd", "two")
    assert (found.by, found.trials, found.parallel) == ("random", 40, 1)
    assert found.seed == 1_000_003, "the seed of sweeps, which is none of the seeds that are reported"


def test_blocks_of_keys_are_paths_too_so_that_set_reaches_them() -> None:
    vary: dict[str, Tree] = {
        "train": {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}},
        "training.temperature": [1, 2],
        "data": {"k": {"low": 2, "high": 8}},
    }
    found = search_of({"vary": vary}).vary
    assert found == {
        "train.learning_rate": ValueRange(low=1e-5, high=1e-3, log=True),
        "training.temperature": ValueList(values=(1, 2)),
        "data.k": ValueRange(low=2, high=8),
    }
    assert [values.whole for values in found.values() if isinstance(values, ValueRange)] == [False, True]


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ({"vary": {}}, "search.vary: {}, needs at least 1"),
        ({"vary": {"train.learning_rate": []}}, "search.vary.train.learning_rate: [], must be a list of values that"),
        ({"vary": {"train.learning_rate": 1e-4}}, "search.vary.train.learning_rate: 0.0001, must be a list of values"),
        ({"vary": {"train.learning_rate": [1, 1.0]}}, "must have each value once, 1.0 is repeated"),
        ({"vary": {"learning_rate": [1]}}, "search.vary.learning_rate: is no key of a method that can vary, such as"),
        ({"vary": {"label": ["a"]}}, "search.vary.label: is no key of a method that can vary"),
        ({"vary": {"train.select_by": ["metric"]}}, "search.vary.train.select_by: cannot vary: trials are compared by"),
        ({"vary": {"rates": [[1, 2]]}}, "search.vary.rates: cannot vary: a search compares learning rates itself"),
        (
            {"vary": {"data": ["minimax-knn"], "data.k": [1]}},
            "search.vary.data.k: lies within data, which varies as a whole",
        ),
        (
            {"vary": {"train.epochs": [1], "train": {"epochs": [2]}}},
            "search.vary.train.epochs: is given twice, as one key and as blocks",
        ),
        ({"vary": {"train.epochs": {"low": 1}}}, "search.vary.train.epochs.high: missing, and needed"),
        (
            {"vary": {"train.epochs": {"low": 1, "high": 2, "lg": True}}},
            "search.vary.train.epochs.lg: unknown key of a range; did you mean log?",
        ),
        ({"vary": {"train.epochs": {"low": 3, "high": 2}}}, "must have a low below its high"),
        ({"vary": {"train.epochs": {"low": "a", "high": 2}}}, "search.vary.train.epochs.low: a, must be a number"),
        (
            {"vary": {"train.epochs": {"low": 0, "high": 2, "log": True}}},
            "search.vary.train.epochs.low: 0, must be abo",
        ),
        ({"by": "grid", "trials": 1}, "search.trials: 1, but the grid has 2 combinations; give trials: 2, fewer"),
        (
            {"by": "grid", "vary": {"train.epochs": {"low": 1, "high": 2}}},
            "but by: grid takes lists of values; give a list, or by: random or tpe",
        ),
        ({"by": "bayes"}, "search.by: bayes, must be grid, random or tpe"),
        ({"trials": 0}, "search.trials: 0, must be at least 1"),
        (
            {"seed": 0},
            "search.seed: 0 is one of seeds, whose students are reported; give a number that is none of them",
        ),
        ({"method": "vanila-kd"}, "search.method: vanila-kd is no method of the task sst2; did you mean vanilla-kd?"),
        ({"student": "six"}, "search.student: six is no student of the task sst2"),
        ({"task": "mrpc"}, "search.task: mrpc is no task of the recipe"),
        ({"asha": {}}, "search.asha: unknown key"),
    ],
)
def test_a_wrong_search_is_refused_in_one_line_with_its_place(search: dict[str, Tree], line: str) -> None:
    with pytest.raises(RequestError) as refused:
        search_of(search)
    assert line in str(refused.value) and "\n" not in str(refused.value)


def test_of_several_methods_the_search_has_to_name_one() -> None:
    with pytest.raises(RequestError, match=r"^search.method: missing, and needed: the task sst2 has 2 of them \(no-kd"):
        search_of({}, method=["no-kd", "vanilla-kd"])
    assert search_of({"method": "no-kd"}, method=["no-kd", "vanilla-kd"]).method == "no-kd"


def test_trials_are_not_compared_on_rows_that_are_reported_nor_without_held_out_rows() -> None:
    with pytest.raises(RequestError, match=r"^search.method: vanilla-kd, but its students are selected on dev"):
        search_of({}, train={"select": "dev"})
    with pytest.raises(RequestError, match=r"^search.method: vanilla-kd, but data.holdout is 0"):
        search_of({}, train={"select": "last"}, data={"holdout": 0})
