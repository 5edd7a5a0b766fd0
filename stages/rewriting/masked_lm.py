"""Replaces words of a text by predictions of a masked language model. Runs in a worker.

After Jiao et al. 2020 (TinyBERT), algorithm 1: a word is replaced with probability p = 0.4 by one of the K = 15
likeliest words, drawn uniformly. The paper masks one word at a time, with a forward pass each, and replaces a word of
several tokens by one of its neighbours among GloVe vectors. Here all chosen words of a text are masked together and
predicted from one forward pass, without knowledge of each other; a word of several tokens is one mask as well and is
replaced by a word of one token. Words beyond the model's maximal length are not replaced.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from stages.corpus.tokenizer import load_tokenizer
from stages.models.language_models import load_model, max_tokens
from stages.rewriting.vocabulary import vocabulary_of
from stages.rewriting.words import Word, cased_like, with_words, words_of
from stages.specs.seeds import seed_of

TEXTS = 32
"""Texts in a batch."""


class MaskFiller:
    """A masked language model that rewrites texts."""

    def __init__(self, directory: Path, share: float, nearest: int, device: str) -> None:
        self.model: Any = load_model(AutoModelForMaskedLM, directory, "model").to(device)
        self.tokenizer = load_tokenizer(directory)
        if self.tokenizer.mask_token is None:
            raise ValueError(f"model: the tokenizer in {directory} has no mask token; give a masked language model")
        self.vocabulary = vocabulary_of(self.tokenizer, self.model.config.vocab_size)
        self.ids = torch.tensor(self.vocabulary.ids, device=device)
        self.share, self.nearest, self.device = share, nearest, device
        self.most = max_tokens(self.model, self.tokenizer)

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Batches are formed by length and content, so that the same texts share a batch whatever their order."""
        masked = [self._chosen(text, seed) for text, seed in zip(texts, seeds, strict=True)]
        changed = [row for row, words in enumerate(masked) if words]
        order = sorted(changed, key=lambda row: (len(texts[row]), texts[row], seeds[row]))
        new = list(texts)
        for start in range(0, len(order), TEXTS):
            rows = order[start : start + TEXTS]
            drawn_from = self._likeliest([texts[row] for row in rows], [masked[row] for row in rows])
            for row, several in zip(rows, drawn_from, strict=True):
                new[row] = _drawn(texts[row], masked[row], several, seeds[row])
        return new

    def _chosen(self, text: str, seed: int) -> list[Word]:
        """The words of the text that are to be masked; none where the text itself contains the mask token, which could
        not be told from a mask."""
        random = Random(seed)
        chosen = [word for word in words_of(text) if random.random() < self.share]
        return [] if self.tokenizer.mask_token in text else chosen

    @torch.inference_mode()
    def _likeliest(self, texts: Sequence[str], masked: Sequence[Sequence[Word]]) -> list[list[list[str]]]:
        """For each text, for each of its masks within the model's maximal length, the likeliest words other than the
        masked one, the likeliest first."""
        mask: str = self.tokenizer.mask_token
        given = [with_words(text, dict.fromkeys(words, mask)) for text, words in zip(texts, masked, strict=True)]
        inputs = self.tokenizer(given, padding=True, truncation=True, max_length=self.most, return_tensors="pt")
        inputs = inputs.to(self.device)
        at_masks = inputs["input_ids"] == self.tokenizer.mask_token_id
        logits_MW = self.model(**inputs).logits[at_masks][:, self.ids].float()
        counts = at_masks.sum(1).tolist()
        predicted = [word for words, count in zip(masked, counts, strict=True) for word in words[:count]]
        likeliest = iter(self._words(logits_MW, predicted))
        return [list(islice(likeliest, count)) for count in counts]

    def _words(self, logits_MW: Tensor, hidden: Sequence[Word]) -> list[list[str]]:
        for row, word in enumerate(hidden):
            logits_MW[row, self.vocabulary.places.get(word.text.casefold(), [])] = -torch.inf
        values, places = (found.cpu() for found in logits_MW.topk(min(self.nearest, logits_MW.shape[1])))
        rows = zip(values.tolist(), places.tolist(), strict=True)
        words = self.vocabulary.words
        return [[words[place] for value, place in zip(*row, strict=True) if value > -torch.inf] for row in rows]


def _drawn(text: str, masked: Sequence[Word], likeliest: Sequence[Sequence[str]], seed: int) -> str:
    """The text with one of its likeliest words in the place of each mask. Masks beyond the model's maximal length keep
    their word."""
    random = Random(seed_of(seed, 1))
    chosen: dict[Word, str] = {}
    for word, several in zip(masked, likeliest, strict=False):
        if several:
            chosen[word] = cased_like(word.text, several[int(random.random() * len(several))])
    return with_words(text, chosen)
