"""The optimizer of a training, and the schedule of the learning rate."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from training_setups import CLASSES, HARD, Interrupted, LocalWorker, equal_weights, setup_of, small_bert, spec_of

from stages.specs.axes.optimizers import LinearRate, Sgd, StepRate
from stages.training.loop import fit
from stages.training.optimizer import learning_rate
from stages.training.turns import Turns


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


STEPS = StepRate(at=(0.5,), factor=0.1)


def test_a_training_by_sgd_in_steps_of_the_rate_is_resumed_with_the_same_bits(tmp_path: Path) -> None:
    """Momentum is kept, and the rate is that of the step in the phase. Weight decay is SGD's own."""
    changes: dict[str, object] = {"optimizer": Sgd(momentum=0.9), "schedule": STEPS, "warmup": 0.0, "weight_decay": 0.5}
    spec = spec_of(HARD, **changes, select="last")

    def cut(reached: int) -> None:
        if reached == 10:
            raise Interrupted

    setup = setup_of(spec, CLASSES, tmp_path / "cut.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup, LocalWorker(cut))
    resumed, whole, other = (small_bert(CLASSES) for _ in range(3))
    fit(resumed, setup, LocalWorker())
    fit(whole, setup_of(spec, CLASSES, tmp_path / "whole.pt"), LocalWorker())
    assert equal_weights(resumed.state_dict(), whole.state_dict())
    without = spec.model_copy(update={"train": spec.train.model_copy(update={"weight_decay": 0.0})})
    fit(other, setup_of(without, CLASSES, tmp_path / "other.pt"), LocalWorker())
    assert equal_weights(other.state_dict(), whole.state_dict())
    constant = spec.model_copy(update={"train": spec.train.model_copy(update={"schedule": LinearRate()})})
    fit(other, setup_of(constant, CLASSES, tmp_path / "linear.pt"), LocalWorker())
    assert not equal_weights(other.state_dict(), whole.state_dict())


def test_the_students_rate_follows_its_schedule_and_a_participants_turns_fall_linearly() -> None:
    turns = Turns(np.array([True, True, False, False, False, False]), STEPS)
    assert [turns.factor(step, 0.0) for step in range(6)] == pytest.approx([1, 0.5, 1, 1, 0.1, 0.1])
    assert turns.student_rate(6, 0.0) == pytest.approx(0.1)
