"""The losses on logits and labels: pure functions of tensors that return one value a row.

Shapes: B rows, C classes (1 for a regression). Where a row has several entries with a label of their own, the last
dimension is C all the same, and there is one value for each entry.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits_BC: "Tensor", labels_B: "Tensor") -> "Tensor":
    """[B]: H(y, p) = -log softmax(z)[y]."""
    return -logits_BC.log_softmax(-1).gather(-1, labels_B[..., None]).squeeze(-1)


def smoothed_cross_entropy(logits_BC: "Tensor", labels_B: "Tensor", epsilon: float, smoothing_C: "Tensor") -> "Tensor":
    """[B]: H(q', p) with q' = (1 - epsilon) q + epsilon u: label smoothing with a fixed distribution u
    (``smoothing_C``) over the classes (Szegedy et al. 2016; with u as in Yuan et al. 2020, eq. 2). Its gradient is that
    of (1 - epsilon) CE + epsilon KL(u || p): KD from a teacher whose output is u for every row."""
    logarithms_BC = logits_BC.log_softmax(-1)
    hard_B = -logarithms_BC.gather(-1, labels_B[..., None]).squeeze(-1)
    return (1 - epsilon) * hard_B - epsilon * (logarithms_BC * smoothing_C).sum(-1)


def soft_cross_entropy(student_BC: "Tensor", teacher_BC: "Tensor", temperature: float) -> "Tensor":
    """[B]: tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), summed over classes (Hinton et al. 2015).

    Averaged over rows this is PyTorch's ``batchmean`` times tau^2, as in DistilBERT and the minimax-kNN
    code; PKD, Tf-KD and TAKD divide by C as well: a weight in those papers is C times the same weight here.
    """
    student_BC = (student_BC / temperature).log_softmax(-1)
    teacher_BC = (teacher_BC / temperature).log_softmax(-1)
    return (teacher_BC.exp() * (teacher_BC - student_BC)).sum(-1) * temperature**2


def squared_error(student_BC: "Tensor", target_BC: "Tensor") -> "Tensor":
    """[B]: mean over classes of (z_S - target)^2. For a regression pass the labels as [B, 1]: a [B] target
    would broadcast to [B, B], which is a bug in the original annealing code on STS-B."""
    assert student_BC.shape == target_BC.shape, (student_BC.shape, target_BC.shape)
    return (student_BC - target_BC).square().mean(-1)


def word_mean(values_BW: "Tensor", words_BW: "Tensor") -> "Tensor":
    """[B]: the mean of the values of each row's entries that ``words_BW`` marks, such as the words of a sentence; 0 for
    a row without any."""
    return values_BW.masked_fill(~words_BW, 0).sum(1) / words_BW.sum(1).clamp_min(1)


def excess_over_margin(distance_B: "Tensor", margin: float) -> "Tensor":
    """[B]: max(0, distance - margin), the hinge of Continuation-KD (Jafari et al. 2022). There the margin is m Phi and
    the distance is summed over classes; here the distance is a mean over classes."""
    return (distance_B - margin).clamp_min(0)


def virtual_logits(labels_B: "Tensor", classes: int, correct: float) -> "Tensor":
    """[B, C]: log p_d of the virtual teacher in float32, p_d = ``correct`` for the label and (1 - correct) / (C - 1)
    for any other class (Yuan et al. 2020, Tf-KD). Divided by a temperature as logits, these give the paper's softened
    p_d; its released code divides the probabilities instead, which makes them almost uniform."""
    wrong = (1 - correct) / (classes - 1)
    shares_BC = labels_B.float().new_full((*labels_B.shape, classes), wrong)
    return shares_BC.scatter(-1, labels_B[..., None], correct).log()
