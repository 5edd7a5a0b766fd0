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

TERMS = ("hard", "smoothed", "soft", "match", "layers", "candidates")
"""All that a loss may be made of, by the names of its weights."""


def loss_of(
    logits_BC: Tensor,
    labels_B: Tensor,
    said: Mapping[str, Tensor],
    method: Method,
    weighing: Weights,
    regression: bool,
) -> Tensor:
    """[B]: the weighted sum. ``said`` holds the teacher's logits where a term asks for them."""
    return weighed(terms_of(logits_BC, labels_B, said, method, weighing, regression), weighing)


def terms_of(
    logits_BC: Tensor,
    labels_B: Tensor,
    said: Mapping[str, Tensor],
    method: Method,
    weighing: Weights,
    regression: bool,
) -> dict[str, Tensor]:
    """[B] by name: the terms of the logits that are in force, before they are weighed."""
    terms = {}
    if weighing.hard:
        terms["hard"] = hard_loss(logits_BC, labels_B, regression)
    if weighing.smoothed:
        terms["smoothed"] = _smoothed(logits_BC, labels_B, method)
    if weighing.taught:
        targets, classes = method.targets, logits_BC.shape[1]
        by_rule = virtual_logits(labels_B, classes, targets.correct) if isinstance(targets, Virtual) else None
        taught_BC = said["logits"] if by_rule is None else by_rule
        terms["match" if weighing.match else "soft"] = distance_of(logits_BC, taught_BC, method, weighing)
    return terms


def weighed(terms: Mapping[str, Tensor], weighing: Weights) -> Tensor:
    """[B]: their weighted sum."""
    return torch.stack([getattr(weighing, name) * term_B for name, term_B in terms.items()]).sum(0)


def distance_of(logits_BC: Tensor, taught_BC: Tensor, method: Method, weighing: Weights) -> Tensor:
    """[B]: how far the student is from what it is taught, by the term in force, before it is weighed. Candidates are
    chosen by it, too."""
    if weighing.match:
        distance_B = squared_error(logits_BC, weighing.scale * taught_BC)
        return beyond(distance_B, weighing.margin) if weighing.margin else distance_B
    training = method.training
    distance_B = soft_cross_entropy(logits_BC, taught_BC, weighing.temperature)
    mean = isinstance(training, OnePhase) and training.reduction == "mean"
    return distance_B / logits_BC.shape[1] if mean else distance_B


def _smoothed(logits_BC: Tensor, labels_B: Tensor, method: Method) -> Tensor:
    targets = method.targets
    assert isinstance(targets, Smoothed)
    spread_C = _spread(targets.distribution, logits_BC.shape[1], logits_BC.device)
    return smoothed_cross_entropy(logits_BC, labels_B, targets.epsilon, spread_C)


@cache
def _spread(given: tuple[float, ...] | None, classes: int, device: torch.device) -> Tensor:
    """Copied to the device once: a copy a step would be waited for."""
    return (torch.tensor(given) if given else uniform(classes)).to(device)
