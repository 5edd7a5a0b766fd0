"""Optimizers and schedules of the learning rate."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from stages.specs.axes.optimizers import (
    AdamW,
    ConstantRate,
    LinearRate,
    OptimizerKind,
    RateSchedule,
    Sgd,
    StepRate,
    rate_factor,
    sgd_over,
)
from stages.training.optimizer import learning_rate


def test_blocks_are_told_apart_by_their_kind() -> None:
    optimizers, schedules = TypeAdapter(OptimizerKind), TypeAdapter(RateSchedule)
    assert optimizers.validate_python({"kind": "sgd", "weight_decay": 5e-4}) == Sgd(weight_decay=5e-4)
    assert optimizers.validate_python({"kind": "adamw"}) == AdamW()
    assert schedules.validate_python({"kind": "steps", "at": [0.3, 0.6], "factor": 0.2}) == StepRate(
        at=(0.3, 0.6), factor=0.2
    )
    assert [schedules.validate_python({"kind": kind}) for kind in ("linear", "constant")] == [
        LinearRate(),
        ConstantRate(),
    ]


@pytest.mark.parametrize(
    ("kind", "block", "message"),
    [
        (Sgd, {"momentum": 1.0}, "momentum"),
        (Sgd, {"momentum": 0.0, "nesterov": True}, "nesterov: needs a momentum above 0; set momentum"),
        (Sgd, {"weight_decay": -1.0}, "weight_decay"),
        (Sgd, {"learning_rate": 0.1}, "learning_rate"),
        (StepRate, {"at": [0.75, 0.5]}, r"at: \[0.75, 0.5\] does not rise"),
        (StepRate, {"at": [0.5, 0.5]}, "does not rise"),
        (StepRate, {"at": [1.0]}, "at"),
        (StepRate, {"factor": 1.0}, "factor"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: Any, block: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(block)


# --- the learning rate ----------------------------------------------------------------------------


def test_steps_multiply_the_rate_at_shares_of_the_phase() -> None:
    factors = [rate_factor(StepRate(), step, 8) for step in range(8)]
    np.testing.assert_allclose(factors, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    thirds = [rate_factor(StepRate(at=(1 / 3, 0.5, 0.9), factor=0.5), step, 10) for step in range(10)]
    np.testing.assert_allclose(thirds, [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125])
    assert {rate_factor(StepRate(at=()), step, 5) for step in range(5)} == {1.0}


def test_a_warm_up_rises_before_the_steps_and_leaves_their_places() -> None:
    factors = [rate_factor(StepRate(), step, 20, warmup=0.2) for step in range(20)]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, *[1] * 7, *[0.1] * 5, *[0.01] * 5])


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_the_linear_schedule_is_the_one_that_trainings_have(steps: int, warmup: float) -> None:
    for step in range(steps):
        assert rate_factor(LinearRate(), step, steps, warmup) == learning_rate(step, steps, warmup)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert [rate_factor(ConstantRate(), step, 4, 0.5) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]


# --- SGD ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        Sgd(),
        Sgd(momentum=0.8, weight_decay=0.05),
        Sgd(momentum=0.7, nesterov=True),
        Sgd(momentum=0.0, weight_decay=0.0),
    ],
)
def test_sgd_follows_its_formula(settings: Sgd) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(4, 3))
    parameter = torch.nn.Parameter(torch.from_numpy(weights.copy()))
    optimizer = sgd_over([parameter], settings, 0.1)
    velocity = np.zeros_like(weights)
    for step in range(6):
        gradient = generator.normal(size=weights.shape)
        rate = 0.1 * rate_factor(StepRate(), step, 6)
        parameter.grad = torch.from_numpy(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        decayed = gradient + settings.weight_decay * weights
        velocity = settings.momentum * velocity + decayed
        weights = weights - rate * (decayed + settings.momentum * velocity if settings.nesterov else velocity)
    np.testing.assert_allclose(parameter.detach().numpy(), weights, rtol=1e-10)


def test_a_rate_in_a_tensor_and_frozen_parameters_are_possible() -> None:
    moved, frozen = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    frozen.requires_grad_(False)
    rate = torch.tensor(0.5)
    optimizer = sgd_over([moved, frozen], Sgd(weight_decay=0.0), rate)
    assert optimizer.param_groups[0]["params"] == [moved]
    moved.grad = torch.ones(2)
    rate.fill_(0.25)
    optimizer.step()
    torch.testing.assert_close(moved.detach(), torch.full((2,), 0.75))
