"""Logits of words are gathered from those of word pieces."""

import torch

from stages.tagging.word_logits import NOT_A_WORD, word_logits


def test_logits_of_words_are_those_of_their_first_pieces() -> None:
    logits = torch.arange(2 * 5 * 3, dtype=torch.float32).reshape(2, 5, 3)
    first = torch.tensor([[1, 3, 4], [2, NOT_A_WORD, NOT_A_WORD]])
    words, mask = word_logits(logits, first)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert torch.equal(words[0], logits[0, [1, 3, 4]])
    assert torch.equal(words[1, 0], logits[1, 2])
    assert (words[1, 1:] == 0).all()
