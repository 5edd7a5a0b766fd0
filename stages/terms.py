"""What the student's logits cost in an epoch: the losses that are in force, with their weights."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from stages.method import Method, OnePhase, Smoothed, Virtual
from stages.objectives import (
    beyond,
    hard_loss,
    smoothed_cross_entropy,
    soft_cross_entropy,
    squared_error,
    uniform,
    virtual_logits,
)
from stages.schedule import Weights


def loss_of(
    logits_BC: Tensor,
    labels_B: Tensor,
    said: Mapping[str, Tensor],
    method: Method,
    weighing: Weights,
    regression: bool,
) -> Tensor:
    """[B]: the weighted sum. ``said`` holds the teacher's logits where a term asks for them."""
    terms = []
    if weighing.hard:
        terms.append(weighing.hard * hard_loss(logits_BC, labels_B, regression))
    if weighing.smoothed:
        terms.append(weighing.smoothed * _smoothed(logits_BC, labels_B, method))
    if weighing.soft:
        terms.append(weighing.soft * _soft(logits_BC, labels_B, said, method, weighing.temperature))
    if weighing.match:
        distance_B = squared_error(logits_BC, weighing.scale * said["logits"])
        terms.append(weighing.match * (beyond(distance_B, weighing.margin) if weighing.margin else distance_B))
    return torch.stack(terms).sum(0)


def _soft(
    logits_BC: Tensor, labels_B: Tensor, said: Mapping[str, Tensor], method: Method, temperature: float
) -> Tensor:
    targets, training, classes = method.targets, method.training, logits_BC.shape[1]
    by_rule = virtual_logits(labels_B, classes, targets.correct) if isinstance(targets, Virtual) else None
    loss_B = soft_cross_entropy(logits_BC, said["logits"] if by_rule is None else by_rule, temperature)
    mean = isinstance(training, OnePhase) and training.reduction == "mean"
    return loss_B / classes if mean else loss_B


def _smoothed(logits_BC: Tensor, labels_B: Tensor, method: Method) -> Tensor:
    targets = method.targets
    assert isinstance(targets, Smoothed)
    spread_C = _spread(targets.distribution, logits_BC.shape[1], logits_BC.device)
    return smoothed_cross_entropy(logits_BC, labels_B, targets.epsilon, spread_C)


@cache
def _spread(given: tuple[float, ...] | None, classes: int, device: torch.device) -> Tensor:
    """Copied to the device once: a copy a step would be waited for."""
    return (torch.tensor(given) if given else uniform(classes)).to(device)
