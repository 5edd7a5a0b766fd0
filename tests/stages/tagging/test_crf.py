"""The CRF is that of a sum over all sequences of tags, written out; its marginals are the gradient of log Z."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.tagging.crf import (
    FORBIDDEN,
    Chain,
    LinearChainCrf,
    log_marginals,
    log_partition,
    max_marginals,
    negative_log_likelihood,
    sequence_score,
    viterbi,
)
from stages.tagging.tags import orphans, tag_set

LENGTHS = (4, 1, 3)
C, T = 3, 4


def made(
    seed: int = 0, tags: int = C, steps: int = T, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Chain]:
    """Emissions, mask and chain of three rows of different lengths; emissions beyond a row are large."""
    generator = torch.Generator().manual_seed(seed)
    emissions = torch.randn(len(LENGTHS), steps, tags, generator=generator, dtype=dtype)
    mask = torch.arange(steps) < torch.tensor(LENGTHS)[:, None]
    emissions = emissions.masked_fill(~mask[:, :, None], 77.0)
    scores = (torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((tags, tags), (tags,), (tags,)))
    return emissions, mask, Chain(*scores)


def enumerated(emissions: Tensor, chain: Chain, length: int) -> dict[tuple[int, ...], float]:
    """The score of every sequence of one row [T, C], by the definition, in NumPy."""
    e, (a, start, end) = emissions.numpy(), (score.detach().numpy() for score in chain)
    found = {}
    for tags in product(range(e.shape[1]), repeat=length):
        score = start[tags[0]] + end[tags[-1]] + sum(e[t, tag] for t, tag in enumerate(tags))
        found[tags] = float(score + sum(a[one, other] for one, other in pairwise(tags)))
    return found


def test_log_z_and_the_score_of_a_sequence_are_those_of_all_sequences_written_out() -> None:
    emissions, mask, chain = made()
    logs = log_partition(emissions, mask, chain)
    for row, length in enumerate(LENGTHS):
        scores = enumerated(emissions[row], chain, length)
        assert len(scores) == C**length
        assert float(logs[row]) == pytest.approx(np.logaddexp.reduce(list(scores.values())), abs=1e-12)
        for tags, score in scores.items():
            padded = torch.full((len(LENGTHS), T), 2)
            padded[row, :length] = torch.tensor(tags)
            padded[row, length:] = -100
            assert float(sequence_score(emissions, padded, mask, chain)[row]) == pytest.approx(score, abs=1e-12)


def test_the_likelihoods_of_all_sequences_sum_to_1() -> None:
    emissions, mask, chain = made(1)
    whole = torch.tensor(list(product(range(C), repeat=T)))
    one, mask = emissions[:1].expand(len(whole), -1, -1), mask[:1].expand(len(whole), -1)
    found = negative_log_likelihood(one, whole, mask, chain)
    assert found.shape == (C**T,)
    assert float((-found).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_marginals_are_those_of_all_sequences_written_out() -> None:
    emissions, mask, chain = made(2)
    found = log_marginals(emissions, mask, chain).exp()
    for row, length in enumerate(LENGTHS):
        scores = enumerated(emissions[row], chain, length)
        log_z = np.logaddexp.reduce(list(scores.values()))
        expected = np.zeros((length, C))
        for tags, score in scores.items():
            for t, tag in enumerate(tags):
                expected[t, tag] += np.exp(score - log_z)
        np.testing.assert_allclose(found[row, :length].numpy(), expected, atol=1e-12)


def test_marginals_are_the_gradient_of_log_z_by_the_emissions() -> None:
    emissions, mask, chain = made(3)
    emissions.requires_grad_()
    log_partition(emissions, mask, chain).sum().backward()
    assert emissions.grad is not None
    marginals = log_marginals(emissions, mask, chain).exp() * mask[:, :, None]
    torch.testing.assert_close(marginals.detach(), emissions.grad, atol=1e-12, rtol=0)


def test_viterbi_finds_the_best_of_all_sequences() -> None:
    for seed in range(5):
        emissions, mask, chain = made(seed)
        found = viterbi(emissions, mask, chain)
        for row, length in enumerate(LENGTHS):
            scores = enumerated(emissions[row], chain, length)
            assert tuple(found[row, :length].tolist()) == max(scores, key=lambda tags: scores[tags])
            assert (found[row, length:] == found[row, length - 1]).all()


def test_gradients_are_those_of_finite_differences() -> None:
    emissions, mask, chain = made(4)
    tags = torch.tensor([[0, 1, 2, 1], [2, 0, 0, 0], [1, 1, 0, 0]])
    inputs = [value.requires_grad_() for value in (emissions, *chain)]

    def likelihood(emissions: Tensor, *scores: Tensor) -> Tensor:
        return negative_log_likelihood(emissions, tags, mask, Chain(*scores))

    def posteriors(emissions: Tensor, *scores: Tensor) -> Tensor:
        return log_marginals(emissions, mask, Chain(*scores))[mask]

    assert torch.autograd.gradcheck(likelihood, inputs)
    assert torch.autograd.gradcheck(posteriors, inputs)


def test_without_transitions_the_crf_is_a_softmax_of_each_word() -> None:
    emissions, mask, _ = made(5, dtype=torch.float32)
    chain = LinearChainCrf(["O", "B-X", "I-X"]).chain()
    tags = torch.tensor([[0, 1, 2, 1], [2, 0, 0, 0], [1, 1, 0, 0]])
    softmax = emissions.log_softmax(-1)
    torch.testing.assert_close(log_marginals(emissions, mask, chain)[mask], softmax[mask])
    expected = -(softmax.gather(2, tags[:, :, None]).squeeze(2) * mask).sum(1)
    torch.testing.assert_close(negative_log_likelihood(emissions, tags, mask, chain), expected)
    assert (viterbi(emissions, mask, chain)[mask] == emissions.argmax(-1)[mask]).all()


def test_a_row_has_the_values_that_it_has_alone() -> None:
    emissions, mask, chain = made(6)
    for row, length in enumerate(LENGTHS):
        alone, whole = emissions[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool)
        torch.testing.assert_close(
            log_partition(alone, whole, chain), log_partition(emissions, mask, chain)[row : row + 1]
        )
        own = log_marginals(emissions, mask, chain)[row, :length]
        torch.testing.assert_close(log_marginals(alone, whole, chain)[0], own)


def test_constraints_leave_only_valid_sequences() -> None:
    tags = tag_set(["X", "Y"])
    emissions, mask, _ = made(7, tags=len(tags), dtype=torch.float32)
    # The emissions prefer what is not valid.
    emissions[:, :, [2, 4]] += 5.0
    free, constrained = (LinearChainCrf(tags, constrained=value) for value in (False, True))
    rows = [row[: LENGTHS[number]] for number, row in enumerate(viterbi(emissions, mask, free.chain()).tolist())]
    assert any(orphans([tags[tag] for tag in row]) for row in rows)
    rows = viterbi(emissions, mask, constrained.chain()).tolist()
    assert not any(orphans([tags[tag] for tag in row[:length]]) for row, length in zip(rows, LENGTHS, strict=True))
    posteriors = log_marginals(emissions, mask, constrained.chain()).exp()
    assert (posteriors[:, 0, [2, 4]] == 0).all()
    torch.testing.assert_close(posteriors.sum(-1), torch.ones(3, T))


def test_forbidden_transitions_get_no_gradient_and_spoil_none() -> None:
    tags = tag_set(["X"])
    crf = LinearChainCrf(tags, constrained=True)
    emissions, mask, _ = made(8, dtype=torch.float32)
    emissions.requires_grad_()
    labels = torch.tensor([[1, 2, 0, 1], [0, 0, 0, 0], [1, 1, 2, 0]])
    negative_log_likelihood(emissions, labels, mask, crf.chain()).mean().backward()
    assert crf.transition.grad is not None
    assert crf.transition.grad[0, 2] == 0
    assert crf.chain().transition[0, 2] == FORBIDDEN
    assert (crf.transition.grad.abs() > 0).sum() > 3
    assert all(value.isfinite().all() for value in (crf.transition.grad, emissions.grad) if value is not None)


def test_only_trained_scores_are_saved() -> None:
    crf = LinearChainCrf(tag_set(["X"]), constrained=True)
    assert set(crf.state_dict()) == {"transition", "start", "end"}


def test_half_precision_is_computed_in_float32() -> None:
    emissions, mask, chain = made(9, dtype=torch.float32)
    rounded = emissions.bfloat16()
    assert log_marginals(rounded, mask, chain).dtype == torch.float32
    torch.testing.assert_close(log_partition(rounded, mask, chain), log_partition(rounded.float(), mask, chain))


def test_scores_divided_by_a_temperature_give_a_power_of_the_distribution() -> None:
    emissions, mask, chain = made(10)
    found = log_marginals(emissions / 3, mask, chain.tempered(3))
    scores = enumerated(emissions[0], chain, T)
    powers = {tags: np.exp(score / 3) for tags, score in scores.items()}
    first = sum(value for tags, value in powers.items() if tags[0] == 1) / sum(powers.values())
    assert float(found[0, 0, 1].exp()) == pytest.approx(first, abs=1e-12)


def test_max_marginals_are_the_greatest_probability_of_the_sequences_with_a_tag_at_a_word() -> None:
    emissions, mask, chain = made(3)
    found = max_marginals(emissions, mask, chain)
    for row, length in enumerate(LENGTHS):
        scores = enumerated(emissions[row], chain, length)
        whole = np.logaddexp.reduce(list(scores.values()))
        for t, tag in product(range(length), range(C)):
            expected = max(score for tags, score in scores.items() if tags[t] == tag) - whole
            assert float(found[row, t, tag]) == pytest.approx(expected, abs=1e-12)
    assert torch.equal(found.argmax(2)[mask], viterbi(emissions, mask, chain)[mask])


def test_a_crf_that_was_first_read_in_inference_mode_can_be_trained() -> None:
    crf = LinearChainCrf(tag_set(["X"]), constrained=True)
    with torch.inference_mode():
        crf.chain()
    sum(score.sum() for score in crf.chain()).backward()
    assert crf.transition.grad is not None
