"""The losses of words are means over a row's words, proved against NumPy a word at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.tagging.crf import Chain, log_marginals
from stages.tagging.token_losses import (
    marginal_divergence,
    posterior_divergence,
    word_cross_entropy,
    word_mean,
    word_soft_cross_entropy,
    word_squared_error,
)

LENGTHS = (3, 0, 2)
MASK = torch.arange(3) < torch.tensor(LENGTHS)[:, None]
FULL = (3, 1, 2)
CRF_MASK = torch.arange(3) < torch.tensor(FULL)[:, None]


def logits(seed: int) -> Tensor:
    return torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chain(seed: int) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    return Chain(*(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 4), (4,), (4,))))


def softmax(values: np.ndarray) -> np.ndarray:
    shares = np.exp(values - values.max())
    return shares / shares.sum()


def by_words(value: object, lengths: tuple[int, ...] = LENGTHS) -> list[float]:
    """The mean of ``value(row, word)`` over the words of each row; 0 for none."""
    assert callable(value)
    return [sum(value(row, word) for word in range(length)) / max(1, length) for row, length in enumerate(lengths)]


def test_cross_entropy_is_the_mean_over_the_words_of_a_row() -> None:
    z, tags = logits(0), torch.tensor([[0, 3, 1], [-100, -100, -100], [2, 2, -100]])
    expected = by_words(lambda row, word: -np.log(softmax(z[row, word].numpy())[tags[row, word]]))
    np.testing.assert_allclose(word_cross_entropy(z, tags, MASK).numpy(), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_cross_entropy_is_the_mean_of_the_words(temperature: float) -> None:
    student, teacher = logits(1), logits(2)

    def divergence(row: int, word: int) -> float:
        p, q = (softmax(value[row, word].numpy() / temperature) for value in (teacher, student))
        return float(temperature**2 * (p * np.log(p / q)).sum())

    found = word_soft_cross_entropy(student, teacher, temperature, MASK)
    np.testing.assert_allclose(found.numpy(), by_words(divergence))


def test_squared_error_is_the_mean_over_words_and_tags() -> None:
    student, target = logits(3), logits(4)
    expected = by_words(lambda row, word: float((student - target)[row, word].square().mean()))
    np.testing.assert_allclose(word_squared_error(student, target, MASK).numpy(), expected)


def test_what_lies_beyond_a_row_changes_neither_loss_nor_gradient() -> None:
    z = logits(5).requires_grad_()
    other = logits(5).masked_fill(~MASK[:, :, None], 9.0)
    target = logits(6)
    for loss in (
        word_squared_error(z, target, MASK),
        word_soft_cross_entropy(z, target, 2.0, MASK),
        word_cross_entropy(z, torch.zeros(3, 3, dtype=torch.int64), MASK),
    ):
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        assert (gradient[~MASK] == 0).all()
        assert (gradient[MASK] != 0).any()
    torch.testing.assert_close(word_squared_error(other, target, MASK), word_squared_error(z, target, MASK).detach())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_posterior_divergence_is_that_of_the_marginals_at_the_temperature(temperature: float) -> None:
    (student, own), (teacher, other) = (logits(7), chain(0)), (logits(8), chain(1))
    q, p = (
        log_marginals(e / temperature, CRF_MASK, Chain(*(score / temperature for score in scores))).exp().numpy()
        for e, scores in ((student, own), (teacher, other))
    )
    expected = by_words(
        lambda row, word: float(temperature**2 * (p[row, word] * np.log(p[row, word] / q[row, word])).sum()), FULL
    )
    found = posterior_divergence(student, own, teacher, other, temperature, CRF_MASK)
    np.testing.assert_allclose(found.numpy(), expected)
    assert (found > 0).all()
    same = posterior_divergence(teacher, other, teacher, other, temperature, CRF_MASK)
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-12, rtol=0)


def test_without_transitions_the_posterior_divergence_is_the_soft_cross_entropy() -> None:
    none = Chain(torch.zeros(4, 4), torch.zeros(4), torch.zeros(4))
    student, teacher = logits(9), logits(10)
    found = posterior_divergence(student, none, teacher, none, 2.0, CRF_MASK)
    torch.testing.assert_close(found, word_soft_cross_entropy(student, teacher, 2.0, CRF_MASK))


def test_stored_marginals_teach_a_softmax_as_logits_do() -> None:
    """Log-marginals are logits: a student without a CRF follows them by the loss of any other teacher."""
    stored = log_marginals(logits(11), CRF_MASK, chain(2))
    student = logits(12)
    found = word_soft_cross_entropy(student, stored, 1.0, CRF_MASK)
    torch.testing.assert_close(found, marginal_divergence(student.log_softmax(-1), stored, CRF_MASK))


def test_the_gradient_of_the_posterior_divergence_is_that_of_finite_differences() -> None:
    teacher, other = logits(13), chain(3)

    def loss(emissions: Tensor, *scores: Tensor) -> Tensor:
        return posterior_divergence(emissions, Chain(*scores), teacher, other, 2.0, CRF_MASK)

    assert torch.autograd.gradcheck(loss, [value.requires_grad_() for value in (logits(14), *chain(4))])


def test_a_row_without_words_has_the_mean_0() -> None:
    assert word_mean(torch.full((3, 3), 5.0), MASK).tolist() == [5.0, 0.0, 5.0]
