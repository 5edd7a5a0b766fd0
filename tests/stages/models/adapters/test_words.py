"""The outputs of models for words, from their logits at word pieces."""

from types import SimpleNamespace

import torch
from torch import nn

from stages.models.adapters.words import SURE, word_outputs
from stages.tagging.crf import LinearChainCrf, log_marginals, max_marginals, negative_log_likelihood

TAGS = ("O", "B-X", "I-X")
LOGITS = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0))
FIRST = torch.tensor([[1, 3, 4], [2, -1, 4], [-1, -1, -1]])
"""A whole row, a row whose second word has no piece, and a row without any."""


class Tagger(nn.Module):
    def __init__(self, chained: bool) -> None:
        super().__init__()
        self.config = SimpleNamespace(label2id={name: number for number, name in enumerate(TAGS)})
        if chained:
            self.crf = LinearChainCrf(TAGS)
            for score in self.crf.parameters():
                nn.init.normal_(score)


def test_the_logits_of_a_word_are_those_at_its_first_piece() -> None:
    found = word_outputs(Tagger(False), LOGITS, FIRST)
    assert torch.equal(found.logits[0], LOGITS[0, [1, 3, 4]])
    assert found.entries is not None and found.entries.tolist() == [[True] * 3, [True, False, True], [False] * 3]
    assert found.label_loss is None and found.decided is None


def test_a_word_without_a_piece_counts_as_o() -> None:
    for chained in (False, True):
        found = word_outputs(Tagger(chained), LOGITS, FIRST)
        assert found.logits[1, 1].tolist() == [SURE, 0, 0] and found.logits[2].argmax(-1).tolist() == [0, 0, 0]
        assert bool(torch.isfinite(found.logits).all())


def test_a_crf_is_over_the_words_that_have_a_piece() -> None:
    model = Tagger(True)
    found, chain = word_outputs(model, LOGITS, FIRST), model.crf.chain()
    both, mask = LOGITS[1, [2, 4]][None], torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(found.logits[1, [0, 2]][None], log_marginals(both, mask, chain))
    assert found.decided is not None and found.label_loss is not None
    torch.testing.assert_close(found.decided()[1, [0, 2]][None], max_marginals(both, mask, chain))
    labels = torch.tensor([[0, 1, 2], [1, 0, 2], [1, 1, 1]])
    loss = found.label_loss(labels)
    expected = negative_log_likelihood(both, labels[1:2, [0, 2]], mask, chain) / 2
    torch.testing.assert_close(loss[1:2], expected)
    assert float(loss[2].detach()) == 0.0, "a row without words"


def test_the_gradient_of_the_crf_reaches_emissions_and_transitions() -> None:
    model, logits = Tagger(True), LOGITS.clone().requires_grad_(True)
    found = word_outputs(model, logits, FIRST)
    assert found.label_loss is not None
    found.label_loss(torch.tensor([[0, 1, 2], [1, 0, 2], [1, 1, 1]])).sum().backward()
    assert logits.grad is not None and bool(logits.grad[:2].abs().sum() > 0) and not bool(logits.grad[2].any())
    assert model.crf.transition.grad is not None and bool(model.crf.transition.grad.abs().sum() > 0)
