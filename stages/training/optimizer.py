"""The optimizer of a training, its learning rate, and a readable error when a step needs more memory than the GPU
has."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stages.specs.axes.optimizers import Sgd, sgd_over
from stages.specs.student import Train


class OptimizerSettings(Protocol):
    """The fields of a training's spec that the optimizer needs."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def make_optimizer(model: nn.Module, settings: OptimizerSettings, rate_on: str | None = None) -> torch.optim.Optimizer:
    """Fused AdamW over all parameters of ``model`` that are trained, without weight decay on biases and norms (Devlin
    et al. 2019). With a device ``rate_on``, the learning rate is a tensor there, which a step that a CUDA graph replays
    reads anew."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if rate_on is None:
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    rate = torch.tensor(settings.learning_rate, dtype=torch.float32, device=rate_on)
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=rate.is_cuda)


def optimizer_of(model: nn.Module, train: Train, rate_on: str | None = None) -> torch.optim.Optimizer:
    """The optimizer that ``train`` names, over all parameters of ``model`` that are trained: AdamW as
    ``make_optimizer`` makes it, or SGD with its own weight decay. ``rate_on`` is as there."""
    if not isinstance(train.optimizer, Sgd):
        return make_optimizer(model, train, rate_on)
    rate = train.learning_rate
    given = rate if rate_on is None else torch.tensor(rate, dtype=torch.float32, device=rate_on)
    return sgd_over(model.parameters(), train.optimizer, given)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step. A rate on the device is written in place: a graph knows its address."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state for a checkpoint, which does not depend on where the learning rate is kept."""
    state = optimizer.state_dict()
    fixed = {"capturable": False}
    groups = [
        {**group, "lr": float(group["lr"]), **{name: value for name, value in fixed.items() if name in group}}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Set the optimizer to a state of ``state_of``. The learning rate stays where this optimizer keeps it."""
    own_fields = ("lr", "capturable")
    kept: list[dict[str, Any]] = [
        {name: group[name] for name in own_fields if name in group} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, kept, strict=True):
        group.update(own)


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """The learning rate at ``step`` of ``steps`` in a phase, as a share of the peak rate: it rises linearly from 0 over
    the share ``warmup`` of the steps, then falls linearly to 0."""
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))


@contextmanager
def explain_out_of_memory(rows: int) -> Iterator[None]:
    """Turn an out-of-memory error of a forward pass with this many rows into a ValueError that names the setting which
    needs less memory. With one row nothing can be reduced: the error passes unchanged."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if rows == 1:
            raise
        raise ValueError(
            f"train.micro_batch: a forward pass of {rows} rows does not fit in the GPU's memory; set train.micro_batch "
            f"to {max(1, rows // 2)} (gradients still add up to those of the batch)"
        ) from error
