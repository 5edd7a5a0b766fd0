"""The losses of models that label words: pure functions of tensors that return one value a row, the mean over the row's
words.

Shapes: B rows, T words of the longest row, C tags. ``mask_BT`` is true for a row's words; a row without words has the
loss 0. Logits beyond a row must be finite, and are not read otherwise.
"""

from torch import Tensor

from stages.specs.axes.losses import soft_cross_entropy, squared_error, word_mean
from stages.tagging.crf import Chain, log_marginals


def word_cross_entropy(logits_BTC: Tensor, tags_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """[B]: the mean of -log softmax(z_t)[y_t] over a row's words. Tags beyond a row are not read."""
    tags_BT1 = tags_BT.masked_fill(~mask_BT, 0)[:, :, None]
    return word_mean(-logits_BTC.log_softmax(-1).gather(2, tags_BT1).squeeze(2), mask_BT)


def word_soft_cross_entropy(student_BTC: Tensor, teacher_BTC: Tensor, temperature: float, mask_BT: Tensor) -> Tensor:
    """[B]: the mean of tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)) over a row's words (Hinton et al. 2015, a
    word at a time)."""
    return word_mean(soft_cross_entropy(student_BTC, teacher_BTC, temperature), mask_BT)


def word_squared_error(student_BTC: Tensor, target_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """[B]: the mean of (z_S - target)^2 over a row's words and tags, as annealing compares logits."""
    return word_mean(squared_error(student_BTC, target_BTC), mask_BT)


def posterior_divergence(
    student_BTC: Tensor, student: Chain, teacher_BTC: Tensor, teacher: Chain, temperature: float, mask_BT: Tensor
) -> Tensor:
    """[B]: the mean of tau^2 KL(q_T(y_t | x) || q_S(y_t | x)) over a row's words, where q is a CRF's posterior of a
    word's tag at the temperature tau: its marginals with emissions and transitions divided by tau.

    This is the posterior distillation of Wang et al. 2020 (Structure-Level Knowledge Distillation For Multilingual
    Sequence Labeling), which sums the cross-entropy of the posteriors over words instead. ``student_BTC`` and
    ``teacher_BTC`` are emissions; where the teacher's posteriors are stored, use ``marginal_divergence``."""
    own_BTC = log_marginals(student_BTC / temperature, mask_BT, student.tempered(temperature))
    others_BTC = log_marginals(teacher_BTC / temperature, mask_BT, teacher.tempered(temperature))
    return temperature**2 * marginal_divergence(own_BTC, others_BTC, mask_BT)


def marginal_divergence(student_BTC: Tensor, teacher_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """[B]: the mean of KL(q_T || q_S) over a row's words, of logarithms of distributions over tags, such as those that
    ``log_marginals`` gives."""
    return word_mean((teacher_BTC.exp() * (teacher_BTC - student_BTC)).sum(-1), mask_BT)
