"""The losses on logits and labels: pure functions that return one value a row, and the named terms that a method sums.

Shapes: B rows, C classes (1 for a regression).
"""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.method import Method, OnePhase, Smoothed, Virtual
from stages.specs.schedule import LossWeights


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """[B]: H(y, p) = -log softmax(z)[y]."""
    return functional.cross_entropy(logits_BC, labels_B, reduction="none")


def smoothed_cross_entropy(logits_BC: Tensor, labels_B: Tensor, epsilon: float, smoothing_C: Tensor) -> Tensor:
    """[B]: H(q', p) with q' = (1 - epsilon) q + epsilon u: label smoothing with a fixed distribution u
    (``smoothing_C``) over the classes (Szegedy et al. 2016; with u as in Yuan et al. 2020, eq. 2). Its gradient is that
    of (1 - epsilon) CE + epsilon KL(u || p): KD from a teacher whose output is u for every row."""
    logarithms_BC = functional.log_softmax(logits_BC, dim=-1)
    hard_B = -logarithms_BC.gather(1, labels_B[:, None]).squeeze(1)
    return (1 - epsilon) * hard_B - epsilon * (logarithms_BC * smoothing_C).sum(-1)


def soft_cross_entropy(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """[B]: tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), summed over classes (Hinton et al. 2015).

    Averaged over rows this is PyTorch's ``batchmean`` times tau^2, as in DistilBERT and the minimax-kNN
    code; PKD, Tf-KD and TAKD divide by C as well: a weight in those papers is C times the same weight here.
    """
    student_BC = functional.log_softmax(student_BC / temperature, dim=-1)
    teacher_BC = functional.log_softmax(teacher_BC / temperature, dim=-1)
    divergence_BC = functional.kl_div(student_BC, teacher_BC, reduction="none", log_target=True)
    return divergence_BC.sum(-1) * temperature**2


def squared_error(student_BC: Tensor, target_BC: Tensor) -> Tensor:
    """[B]: mean over classes of (z_S - target)^2. For a regression pass the labels as [B, 1]: a [B] target
    would broadcast to [B, B], which is a bug in the original annealing code on STS-B."""
    assert student_BC.shape == target_BC.shape, (student_BC.shape, target_BC.shape)
    return (student_BC - target_BC).square().mean(-1)


def hard_loss(logits_BC: Tensor, labels_B: Tensor, regression: bool) -> Tensor:
    """[B]: the task's own loss, cross-entropy for a classification, squared error for a regression."""
    return squared_error(logits_BC, labels_B[:, None]) if regression else cross_entropy(logits_BC, labels_B)


def excess_over_margin(distance_B: Tensor, margin: float) -> Tensor:
    """[B]: max(0, distance - margin), the hinge of Continuation-KD (Jafari et al. 2022). There the margin is m Phi and
    the distance is summed over classes; here the distance is a mean over classes."""
    return (distance_B - margin).clamp_min(0)


def virtual_logits(labels_B: Tensor, classes: int, correct: float) -> Tensor:
    """[B, C]: log p_d of the virtual teacher, p_d = ``correct`` for the label and (1 - correct) / (C - 1) for any other
    class (Yuan et al. 2020, Tf-KD). Divided by a temperature as logits, these give the paper's softened p_d; its
    released code divides the probabilities instead, which makes them almost uniform."""
    wrong = (1 - correct) / (classes - 1)
    shares_BC = torch.full((len(labels_B), classes), wrong, device=labels_B.device)
    return shares_BC.scatter(1, labels_B[:, None], correct).log()


def uniform(classes: int) -> Tensor:
    """[C]: the uniform distribution over the classes."""
    return torch.full((classes,), 1.0 / classes)


TERMS = ("hard", "smoothed", "soft", "match", "layers", "candidates")
"""The names of all loss terms. Each is also the name of its weight in ``LossWeights``."""


def logit_terms(
    logits_BC: Tensor,
    labels_B: Tensor,
    outputs: Mapping[str, Tensor],
    method: Method,
    weights: LossWeights,
    regression: bool,
) -> dict[str, Tensor]:
    """Name -> [B]: the terms on logits and labels whose weight is not 0, each before it is multiplied by its weight.
    ``outputs`` holds the teacher's ``logits`` where a term needs them."""
    terms = {}
    if weights.hard:
        terms["hard"] = hard_loss(logits_BC, labels_B, regression)
    if weights.smoothed:
        terms["smoothed"] = _smoothed(logits_BC, labels_B, method)
    if weights.teacher_logits:
        targets, classes = method.targets, logits_BC.shape[1]
        virtual_BC = virtual_logits(labels_B, classes, targets.correct) if isinstance(targets, Virtual) else None
        teacher_BC = outputs["logits"] if virtual_BC is None else virtual_BC
        terms["match" if weights.match else "soft"] = teacher_distance(logits_BC, teacher_BC, method, weights)
    return terms


def weighted_sum(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """[B]: the sum of the terms, each multiplied by the weight of its name."""
    return torch.stack([getattr(weights, name) * term_B for name, term_B in terms.items()]).sum(0)


def teacher_distance(logits_BC: Tensor, teacher_BC: Tensor, method: Method, weights: LossWeights) -> Tensor:
    """[B]: the distance between student and teacher logits, before it is multiplied by its weight.

    It is the term ``match`` (squared error to scale * z_T, less the margin) if that has a weight, and otherwise
    ``soft`` (tau^2 KL, divided by C if the method's reduction is ``mean``). Minimax picks candidates by it, too.
    """
    if weights.match:
        distance_B = squared_error(logits_BC, weights.scale * teacher_BC)
        return excess_over_margin(distance_B, weights.margin) if weights.margin else distance_B
    training = method.training
    distance_B = soft_cross_entropy(logits_BC, teacher_BC, weights.temperature)
    mean = isinstance(training, OnePhase) and training.reduction == "mean"
    return distance_B / logits_BC.shape[1] if mean else distance_B


def _smoothed(logits_BC: Tensor, labels_B: Tensor, method: Method) -> Tensor:
    targets = method.targets
    assert isinstance(targets, Smoothed)
    smoothing_C = _smoothing_distribution(targets.distribution, logits_BC.shape[1], logits_BC.device)
    return smoothed_cross_entropy(logits_BC, labels_B, targets.epsilon, smoothing_C)


@cache
def _smoothing_distribution(given: tuple[float, ...] | None, classes: int, device: torch.device) -> Tensor:
    """[C]: the distribution as given, or the uniform one. Cached, because a copy to the device in each step would make
    the step wait for it."""
    return (torch.tensor(given) if given else uniform(classes)).to(device)
