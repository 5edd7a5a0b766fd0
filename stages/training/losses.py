"""The losses of logits and labels: pure functions of [B], and the named terms that a method adds up."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.method import Method, OnePhase, Smoothed, Virtual
from stages.specs.schedule import LossWeights


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """H(y, p): -log softmax(z)[y]."""
    return functional.cross_entropy(logits_BC, labels_B, reduction="none")


def smoothed_cross_entropy(logits_BC: Tensor, labels_B: Tensor, epsilon: float, uniform_C: Tensor) -> Tensor:
    """H(q', p) with q' = (1 - epsilon) q + epsilon u: label smoothing with a fixed distribution u over
    the classes (Szegedy et al. 2016; with u as in Yuan et al. 2020, eq. 2). Its gradient is that of
    (1 - epsilon) CE + epsilon KL(u || p): KD from a teacher that always says u."""
    logarithms_BC = functional.log_softmax(logits_BC, dim=-1)
    hard_B = -logarithms_BC.gather(1, labels_B[:, None]).squeeze(1)
    return (1 - epsilon) * hard_B - epsilon * (logarithms_BC * uniform_C).sum(-1)


def soft_cross_entropy(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), summed over classes (Hinton et al. 2015).

    Averaged over rows this is PyTorch's ``batchmean`` times tau^2, as in DistilBERT and the minimax-kNN
    code; PKD, Tf-KD and TAKD divide by C as well, so that their weight means C times ours.
    """
    student_BC = functional.log_softmax(student_BC / temperature, dim=-1)
    teacher_BC = functional.log_softmax(teacher_BC / temperature, dim=-1)
    divergence_BC = functional.kl_div(student_BC, teacher_BC, reduction="none", log_target=True)
    return divergence_BC.sum(-1) * temperature**2


def squared_error(student_BC: Tensor, target_BC: Tensor) -> Tensor:
    """Mean over classes of (z_S - target)^2. For a regression pass the labels as [B, 1]: a [B] target
    would broadcast to [B, B], the bug of the original annealing code on STS-B."""
    assert student_BC.shape == target_BC.shape, (student_BC.shape, target_BC.shape)
    return (student_BC - target_BC).square().mean(-1)


def hard_loss(logits_BC: Tensor, labels_B: Tensor, regression: bool) -> Tensor:
    """The task's own loss: cross-entropy, or squared error of a regression."""
    return squared_error(logits_BC, labels_B[:, None]) if regression else cross_entropy(logits_BC, labels_B)


def beyond(distance_B: Tensor, margin: float) -> Tensor:
    """max(0, distance - margin): what of a distance lies outside of the margin (Jafari et al. 2022, Continuation-KD,
    where the margin is m Phi and the distance is summed over classes; ours is the mean)."""
    return (distance_B - margin).clamp_min(0)


def virtual_logits(labels_B: Tensor, classes: int, correct: float) -> Tensor:
    """[B, C]: log p_d of the teacher by rule, p_d = ``correct`` for the label and (1 - correct) / (C - 1) for any other
    class (Yuan et al. 2020). Tempered as logits, these give the paper's softened p_d; its released code tempers
    the probabilities instead, which makes them all but uniform."""
    wrong = (1 - correct) / (classes - 1)
    shares_BC = torch.full((len(labels_B), classes), wrong, device=labels_B.device)
    return shares_BC.scatter(1, labels_B[:, None], correct).log()


def uniform(classes: int) -> Tensor:
    return torch.full((classes,), 1.0 / classes)


TERMS = ("hard", "smoothed", "soft", "match", "layers", "candidates")
"""All that a loss may be made of, by the names of its weights."""


def loss_of(
    logits_BC: Tensor,
    labels_B: Tensor,
    outputs: Mapping[str, Tensor],
    method: Method,
    weights: LossWeights,
    regression: bool,
) -> Tensor:
    """[B]: the weighted sum. ``outputs`` holds the teacher's logits where a term asks for them."""
    return weighed(terms_of(logits_BC, labels_B, outputs, method, weights, regression), weights)


def terms_of(
    logits_BC: Tensor,
    labels_B: Tensor,
    outputs: Mapping[str, Tensor],
    method: Method,
    weights: LossWeights,
    regression: bool,
) -> dict[str, Tensor]:
    """[B] by name: the terms of the logits that are in force, before they are weighed."""
    terms = {}
    if weights.hard:
        terms["hard"] = hard_loss(logits_BC, labels_B, regression)
    if weights.smoothed:
        terms["smoothed"] = _smoothed(logits_BC, labels_B, method)
    if weights.taught:
        targets, classes = method.targets, logits_BC.shape[1]
        by_rule = virtual_logits(labels_B, classes, targets.correct) if isinstance(targets, Virtual) else None
        teacher_BC = outputs["logits"] if by_rule is None else by_rule
        terms["match" if weights.match else "soft"] = distance_of(logits_BC, teacher_BC, method, weights)
    return terms


def weighed(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """[B]: their weighted sum."""
    return torch.stack([getattr(weights, name) * term_B for name, term_B in terms.items()]).sum(0)


def distance_of(logits_BC: Tensor, teacher_BC: Tensor, method: Method, weights: LossWeights) -> Tensor:
    """[B]: how far the student is from what it is taught, by the term in force, before it is weighed. Candidates are
    chosen by it, too."""
    if weights.match:
        distance_B = squared_error(logits_BC, weights.scale * teacher_BC)
        return beyond(distance_B, weights.margin) if weights.margin else distance_B
    training = method.training
    distance_B = soft_cross_entropy(logits_BC, teacher_BC, weights.temperature)
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
