"""Which values a search tries: all of a grid, seeded draws, and TPE's proposals, from the trials before alone."""

import itertools
import math

import pytest

from pipeline.recipe import SearchSettings, ValueList, ValueRange
from pipeline.recipe.frozen import FrozenMapping
from pipeline.search.samplers import drawn, propose, random_values
from pipeline.search.values import TrialBefore, Values, identity, lies_within, rounded

RATE = ValueRange(low=1e-5, high=1e-3, log=True)
LISTS = {"train.learning_rate": ValueList(values=(1e-4, 2e-4)), "data.k": ValueList(values=(2, 4, 8))}


def search(by: str = "random", seed: int = 7, **vary: ValueList | ValueRange) -> SearchSettings:
    return SearchSettings.model_validate(
        {
            "task": "tiny",
            "method": "vanilla-kd",
            "student": "two",
            "vary": FrozenMapping(vary),
            "by": by,
            "trials": 10,
            "seed": seed,
            "parallel": 1,
        }
    )


def with_scores(values: list[Values]) -> list[TrialBefore]:
    """Trials whose goodness is highest at a rate of 1e-4."""
    return [TrialBefore(one, -abs(math.log10(float(one["rate"])) + 4)) for one in values]


def run(settings: SearchSettings, count: int) -> list[Values]:
    """The proposals of a search of ``count`` trials, one after another."""
    found: list[Values] = []
    while len(found) < count:
        found += propose(settings, with_scores(found), 1)
    return found


def test_a_grid_has_every_combination_once_the_last_path_changing_fastest() -> None:
    found = propose(search("grid", **LISTS), [], 6)
    assert [tuple(values.values()) for values in found] == list(itertools.product((1e-4, 2e-4), (2, 4, 8)))


def test_a_grid_with_another_value_proposes_only_the_combinations_that_are_new() -> None:
    before = [TrialBefore(values, 1.0) for values in propose(search("grid", **LISTS), [], 6)]
    wider = search("grid", **{**LISTS, "data.k": ValueList(values=(2, 4, 8, 16))})
    assert [values["data.k"] for values in propose(wider, before, 99)] == [16, 16]


def test_a_random_search_of_more_trials_begins_with_those_of_fewer() -> None:
    settings = search(rate=RATE, k=ValueRange(low=1, high=100))
    few, many = propose(settings, [], 4), propose(settings, [], 9)
    assert many[:4] == few
    assert propose(settings, [TrialBefore(values, None) for values in few], 5) == many[4:]


def test_another_seed_draws_other_values_and_a_path_more_changes_no_draw_of_the_others() -> None:
    first = next(random_values(search(rate=RATE)))
    assert next(random_values(search(rate=RATE, seed=8))) != first
    assert next(random_values(search(rate=RATE, k=ValueRange(low=1, high=9))))["rate"] == first["rate"]


def test_a_random_search_of_few_combinations_has_each_once_and_no_more() -> None:
    found = propose(search("random", **LISTS), [], 40)
    assert sorted(map(identity, found)) == sorted(map(identity, propose(search("grid", **LISTS), [], 6)))


def test_draws_fill_a_range_evenly_on_a_logarithmic_scale() -> None:
    found = [drawn(RATE, unit / 1000) for unit in range(1000)]
    assert sum(value < 1e-4 for value in found) == pytest.approx(500, abs=5)
    assert (min(found), max(found)) == (pytest.approx(1e-5, rel=0.01), pytest.approx(1e-3, rel=0.01))


@pytest.mark.parametrize("log", [False, True])
def test_draws_of_a_range_of_whole_numbers_are_all_whole_numbers_of_it(log: bool) -> None:
    found = {drawn(ValueRange(low=2, high=5, log=log), unit / 100) for unit in range(100)}
    assert found == {2, 3, 4, 5} and all(isinstance(value, int) for value in found)


@pytest.mark.parametrize(
    ("low", "high", "log", "number", "text"),
    [
        (1e-5, 1e-3, True, 0.000123456, 0.000123),
        (0.0, 1.0, False, 0.123456, 0.123),
        (100.0, 100.5, False, 100.123456, 100.1235),
        (1.0, 1.001, True, 1.000123456, 1.000123),
        (0.0, 5000.0, False, 1234.5678, 1235.0),
    ],
)
def test_drawn_numbers_are_rounded_so_that_a_recipe_can_be_read(
    low: float, high: float, log: bool, number: float, text: float
) -> None:
    assert rounded(ValueRange(low=low, high=high, log=log), number) == text


def test_values_that_the_recipe_does_not_take_are_replaced_by_others() -> None:
    found = propose(search("random", **LISTS), [], 6, lambda values: values["data.k"] != 4)
    assert sorted(values["data.k"] for values in found) == [2, 2, 8, 8]


def test_a_search_by_tpe_that_goes_on_proposes_what_it_would_have_proposed() -> None:
    settings = search("tpe", rate=RATE, k=ValueList(values=(1, 2)))
    whole = run(settings, 14)
    assert len({identity(values) for values in whole}) == 14
    for done in (3, 11, 13):
        assert propose(settings, with_scores(whole[:done]), 1) == [whole[done]]


def test_tpe_proposes_rates_nearer_to_the_best_than_random_draws() -> None:
    found = run(search("tpe", rate=RATE), 40)[10:]
    distances = [abs(math.log10(values["rate"]) + 4) for values in found]
    assert sum(distances) / len(distances) < 0.35  # 0.5 for draws over two decades, with a standard error of 0.05


def test_tpe_takes_account_of_trials_of_a_narrower_range_and_stays_within_the_wider_one() -> None:
    before = with_scores([{"rate": rate} for rate in (2e-5, 5e-5, 1e-4)])
    wider = search("tpe", rate=ValueRange(low=1e-6, high=1e-2, log=True))
    (found,) = propose(wider, before, 1)
    assert lies_within(wider, found) and not lies_within(search("tpe", rate=RATE, k=RATE), found)


def test_several_proposals_at_a_time_differ_and_a_failed_trial_is_not_proposed_again() -> None:
    settings = search("tpe", **LISTS)
    failed = TrialBefore({"train.learning_rate": 1e-4, "data.k": 2}, None)
    found = propose(settings, [failed], 5)
    assert len({identity(values) for values in found}) == 5 and failed.values not in found
