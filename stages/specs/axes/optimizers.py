"""How a student's weights are updated, and how the learning rate changes over a phase. Needs pydantic only, until an
optimizer is made."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from stages.specs.base import Frozen

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

# --- optimizers -----------------------------------------------------------------------------------


class Sgd(Frozen):
    """Stochastic gradient descent with momentum: v = momentum * v + g + weight_decay * w, then w = w - rate * v; with
    `nesterov`, w = w - rate * (g + weight_decay * w + momentum * v). Weight decay applies to every parameter, biases
    and norms too, as is usual for convolutional networks (He et al. 2016: 1e-4)."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    weight_decay: float = Field(1e-4, ge=0.0)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs a momentum above 0; set momentum, or leave nesterov out")
        return self


class AdamW(Frozen):
    """AdamW with the weight decay of the training, on matrices alone (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"


OptimizerKind = Annotated[AdamW | Sgd, Field(discriminator="kind")]


def sgd_over(parameters: Iterable["Parameter"], settings: Sgd, learning_rate: "float | Tensor") -> "Optimizer":
    """The optimizer of torch over those of the ``parameters`` that are trained, in one group; fused, so that a rate
    that is a tensor on the device is read anew in each step, also by one that a CUDA graph replays."""
    import torch

    return torch.optim.SGD(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
        fused=True,
    )


# --- schedules of the learning rate ---------------------------------------------------------------


class LinearRate(Frozen):
    """The rate falls linearly to 0."""

    kind: Literal["linear"] = "linear"


class StepRate(Frozen):
    """The rate is multiplied by `factor` at each of the shares `at` of a phase. As it stands: 1, 0.1 from half of the
    phase on, 0.01 from three quarters on (He et al. 2016 and Mirzadeh et al. 2020 do so in about these places)."""

    kind: Literal["steps"] = "steps"
    at: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = (0.5, 0.75)
    factor: float = Field(0.1, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _at_rises(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at: {list(self.at)} does not rise; give each share of the phase once, in order")
        return self


class ConstantRate(Frozen):
    """The rate stays as it is."""

    kind: Literal["constant"] = "constant"


RateSchedule = Annotated[LinearRate | StepRate | ConstantRate, Field(discriminator="kind")]


def rate_factor(schedule: LinearRate | StepRate | ConstantRate, step: int, steps: int, warmup: float = 0.0) -> float:
    """The learning rate at ``step``, which counts from 0, of the ``steps`` of a phase, as a share of the peak rate.

    Over the share ``warmup`` of the steps it rises linearly from 0 to 1; then it is what the schedule says. The linear
    one falls to 0 from there on; the places of ``StepRate`` are shares of the whole phase.
    """
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    match schedule:
        case LinearRate():
            return max(0.0, (steps - step) / max(1, steps - rising))
        case StepRate(at=at, factor=factor):
            passed = bisect_right([round(share * steps) for share in at], step)
            return float(factor**passed)
        case ConstantRate():
            return 1.0
        case _:
            assert_never(schedule)
