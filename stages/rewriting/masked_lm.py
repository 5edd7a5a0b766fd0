"""Words masked, and filled by a masked language model. Runs in a worker.

After Jiao et al. 2020 (TinyBERT), algorithm 1: p = 0.4, K = 15, one of the K likeliest, each as likely as another.
There each word of one token is masked by itself, a forward a word; a word of several tokens has its neighbours among
GloVe's vectors. Here all chosen words of a text are masked at once and filled from one forward, so that a word is
guessed without what the others were; a word of several tokens is one mask, too, and what comes in its place is one
token. Words beyond what the model takes stay.
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
"""Texts of a forward."""


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
        """Batches go by length and content: the same texts are asked together whatever their order."""
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
        """The words that are masked; none of a text in which the mask token stands, whose masks could not be told."""
        random = Random(seed)
        chosen = [word for word in words_of(text) if random.random() < self.share]
        return [] if self.tokenizer.mask_token in text else chosen

    @torch.inference_mode()
    def _likeliest(self, texts: Sequence[str], masked: Sequence[Sequence[Word]]) -> list[list[list[str]]]:
        """For each text, for each of its masks that the model sees, the likeliest words other than the one it hides."""
        mask: str = self.tokenizer.mask_token
        given = [with_words(text, dict.fromkeys(words, mask)) for text, words in zip(texts, masked, strict=True)]
        inputs = self.tokenizer(given, padding=True, truncation=True, max_length=self.most, return_tensors="pt")
        inputs = inputs.to(self.device)
        at_masks = inputs["input_ids"] == self.tokenizer.mask_token_id
        logits_MW = self.model(**inputs).logits[at_masks][:, self.ids].float()
        counts = at_masks.sum(1).tolist()
        seen = [word for words, count in zip(masked, counts, strict=True) for word in words[:count]]
        likeliest = iter(self._words(logits_MW, seen))
        return [list(islice(likeliest, count)) for count in counts]

    def _words(self, logits_MW: Tensor, hidden: Sequence[Word]) -> list[list[str]]:
        for row, word in enumerate(hidden):
            logits_MW[row, self.vocabulary.places.get(word.text.casefold(), [])] = -torch.inf
        values, places = (found.cpu() for found in logits_MW.topk(min(self.nearest, logits_MW.shape[1])))
        rows = zip(values.tolist(), places.tolist(), strict=True)
        words = self.vocabulary.words
        return [[words[place] for value, place in zip(*row, strict=True) if value > -torch.inf] for row in rows]


def _drawn(text: str, masked: Sequence[Word], likeliest: Sequence[Sequence[str]], seed: int) -> str:
    """The text with one of the likeliest words in the place of each mask. Masks that were cut off have none."""
    random = Random(seed_of(seed, 1))
    chosen: dict[Word, str] = {}
    for word, several in zip(masked, likeliest, strict=False):
        if several:
            chosen[word] = cased_like(word.text, several[int(random.random() * len(several))])
    return with_words(text, chosen)
