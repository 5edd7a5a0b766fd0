"""Where training is decides what the losses weigh and how fast it learns."""

import itertools

import pytest

from stages.method import Annealing, Hard, Method, OnePhase, Smoothed, Taught
from stages.schedule import Phase, Position, Weights, annealed_scale, learning_rate, phases, weights

ANNEALING = Method(targets=Taught(), training=Annealing(max_temperature=7))


def test_the_scale_never_falls_never_passes_one_and_ends_at_exactly_one() -> None:
    """Also where there are fewer epochs than temperatures, or the one does not divide the other."""
    for epochs, warmest in itertools.product(range(1, 25), range(1, 12)):
        scales = [annealed_scale(epoch, epochs, warmest) for epoch in range(epochs)]
        assert scales[-1] == 1.0, (epochs, warmest)
        assert all(0 < scale <= 1 for scale in scales), (epochs, warmest)
        assert scales == sorted(scales), (epochs, warmest)
        assert scales[0] == pytest.approx(-(-warmest // epochs) / warmest), (epochs, warmest)


def test_where_the_temperatures_divide_the_epochs_the_scale_is_the_papers() -> None:
    """Jafari et al. 2021: T starts at tau_max and falls by 1 every ``each`` epochs; Phi(T) = 1 - (T - 1) / tau_max."""
    for warmest, each in itertools.product(range(1, 9), range(1, 5)):
        temperature = warmest
        for epoch in range(warmest * each):
            if epoch and epoch % each == 0:
                temperature -= 1
            expected = 1 - (temperature - 1) / warmest
            assert annealed_scale(epoch, warmest * each, warmest) == pytest.approx(expected, abs=1e-15)


def test_the_two_phases_add_up_and_each_has_an_epoch() -> None:
    for epochs, share in itertools.product(range(2, 30), (0.01, 0.3, 0.5, 0.7, 0.99)):
        first, second = phases(Annealing(first_phase=share), epochs)
        assert (first.name, second.name) == ("anneal", "labels")
        assert first.epochs + second.epochs == epochs
        assert first.epochs >= 1 and second.epochs >= 1
        assert abs(first.epochs - share * epochs) <= 1


def test_one_phase_has_all_the_epochs() -> None:
    assert phases(OnePhase(), 5) == (Phase("train", 5),)


def test_annealing_matches_the_teacher_first_and_the_labels_alone_then() -> None:
    assert weights(ANNEALING, Position(0, 0), 7, False) == Weights(match=1.0, scale=pytest.approx(1 / 7))
    assert weights(ANNEALING, Position(0, 6), 7, False) == Weights(match=1.0, scale=1.0)
    assert weights(ANNEALING, Position(1, 0), 3, False) == Weights(hard=1.0)
    assert weights(ANNEALING, Position(0, 6), 7, True) == Weights(match=1.0, scale=1.0)


def test_vanilla_kd_divides_the_weight_between_label_and_teacher() -> None:
    method = Method(targets=Taught(), training=OnePhase(temperature=4.0, teacher_weight=0.75))
    assert weights(method, Position(), 3, False) == Weights(hard=0.25, soft=0.75, temperature=4.0)
    assert weights(method, Position(), 3, True) == Weights(hard=0.25, match=0.75)


def test_without_a_teacher_one_term_has_all_the_weight() -> None:
    assert weights(Method(targets=Hard()), Position(), 3, False) == Weights(hard=1.0)
    assert weights(Method(targets=Smoothed()), Position(), 3, False) == Weights(smoothed=1.0)


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
