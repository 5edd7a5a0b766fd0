import random
import statistics
from collections.abc import Callable

import pytest

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, interleaved, ratios, summary


def test_nine_values_give_the_second_to_the_eighth() -> None:
    found = summary([9, 1, 8, 2, 7, 3, 6, 4, 5])
    assert (found.low, found.median, found.high, found.count) == (2, 5, 8, 9)
    assert found.coverage == pytest.approx(1 - 2 * (1 + 9) / 2**9)


def test_seven_values_give_all_of_them() -> None:
    found = summary([3, 1, 2, 7, 5, 6, 4])
    assert (found.low, found.median, found.high) == (1, 4, 7)
    assert found.coverage == pytest.approx(1 - 2 / 2**7)


def test_too_few_values_say_how_little_they_cover() -> None:
    assert summary([1, 2, 3]).coverage == 0.75
    assert summary([1]).coverage == 0.0


def test_an_interval_holds_the_true_median_as_often_as_it_says() -> None:
    generator = random.Random(0)
    samples = [summary([generator.expovariate(1.0) for _ in range(9)]) for _ in range(4000)]
    true = 0.6931471805599453
    share = statistics.mean(sample.low <= true <= sample.high for sample in samples)
    assert share == pytest.approx(samples[0].coverage, abs=0.01)


def test_turns_go_forwards_and_backwards_and_the_first_is_not_counted() -> None:
    order: list[str] = []

    def measure(name: str) -> Callable[[], Cost]:
        return lambda: Cost(float(len(order)), 0.0) if order.append(name) is None else Cost(0.0)  # type: ignore[func-returns-value]

    turns = interleaved({"a": measure("a"), "b": measure("b")}, 2)
    assert "".join(order) == "ab" + "ab" + "ba"
    assert len(turns) == 2
    assert ratios(turns, "a", "b") == [3 / 4, 6 / 5]


@pytest.mark.parametrize(("count", "verdict"), [(6, "too few turns"), (7, "reached")])
def test_fewer_than_seven_turns_are_not_judged(count: int, verdict: str) -> None:
    assert Finding("x", summary([1.0] * count), Goal(most=1.0)).verdict == verdict
