"""The schedule of the learning rate."""

import itertools

import pytest

from stages.training.optimizer import learning_rate


@pytest.mark.parametrize(("steps", "warmup"), list(itertools.product((1, 2, 7, 50, 333), (0.0, 0.06, 0.3, 0.99))))
def test_the_rate_rises_to_the_peak_and_falls_and_is_never_zero_in_a_step(steps: int, warmup: float) -> None:
    rates = [learning_rate(step, steps, warmup) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == 1.0
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert learning_rate(steps, steps, warmup) == 0.0


def test_the_rate_warms_up_and_decays_in_equal_steps() -> None:
    rates = [learning_rate(step, 10, 0.4) for step in range(10)]
    assert rates == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert [learning_rate(step, 4, 0.0) for step in range(4)] == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])
