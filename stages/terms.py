"""What the student's logits cost in an epoch: the losses that are in force, with their weights."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from stages.method import Method, Smoothed
from stages.objectives import hard_loss, smoothed_cross_entropy, soft_cross_entropy, squared_error, uniform
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
        terms.append(weighing.soft * soft_cross_entropy(logits_BC, said["logits"], weighing.temperature))
    if weighing.match:
        terms.append(weighing.match * squared_error(logits_BC, weighing.scale * said["logits"]))
    return torch.stack(terms).sum(0)


def _smoothed(logits_BC: Tensor, labels_B: Tensor, method: Method) -> Tensor:
    targets = method.targets
    assert isinstance(targets, Smoothed)
    spread_C = _spread(targets.distribution, logits_BC.shape[1], logits_BC.device)
    return smoothed_cross_entropy(logits_BC, labels_B, targets.epsilon, spread_C)


@cache
def _spread(given: tuple[float, ...] | None, classes: int, device: torch.device) -> Tensor:
    """Copied to the device once: a copy a step would be waited for."""
    return (torch.tensor(given) if given else uniform(classes)).to(device)
