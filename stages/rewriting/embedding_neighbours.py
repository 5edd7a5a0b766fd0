"""Finds for a word the nearest words among a model's input embeddings. Runs in a worker."""

from pathlib import Path

import torch
from torch.nn.functional import normalize
from transformers import AutoModel

from stages.corpus.tokenizer import load_tokenizer
from stages.models.language_models import load_model
from stages.rewriting.vocabulary import Vocabulary, vocabulary_of

BLOCK = 256
"""Words whose neighbours are computed together. The blocks are fixed, so that rounding does not depend on the texts."""


class NearestWords:
    """The nearest words of each word, by the cosine of their embeddings. They are whole words of the vocabulary, and no
    other spelling of the word in upper or lower case."""

    def __init__(self, directory: Path, nearest: int, device: str) -> None:
        model = load_model(AutoModel, directory, "model", lambda key: "embed" in key)
        weights = model.get_input_embeddings().weight.detach()
        self.vocabulary: Vocabulary = vocabulary_of(load_tokenizer(directory), len(weights))
        self.vectors_WH = normalize(weights[torch.tensor(self.vocabulary.ids)].float()).to(device)
        self.nearest = nearest
        self.found: dict[int, list[tuple[str, ...]]] = {}

    def alternatives(self, word: str) -> tuple[str, ...]:
        """At most ``nearest`` words, the nearest first; none for a word that is not a single token."""
        place = self.vocabulary.place(word)
        if place is None:
            return ()
        block, within = divmod(place, BLOCK)
        if block not in self.found:
            self.found[block] = self._block(block * BLOCK)
        return self.found[block][within]

    def _block(self, start: int) -> list[tuple[str, ...]]:
        words = self.vocabulary.words
        cosines_BW = self.vectors_WH[start : start + BLOCK] @ self.vectors_WH.T
        for row, word in enumerate(words[start : start + BLOCK]):
            cosines_BW[row, self.vocabulary.places[word.casefold()]] = -torch.inf
        most = min(self.nearest, len(words))
        values, places = (found.cpu() for found in cosines_BW.topk(most))
        rows = zip(values.tolist(), places.tolist(), strict=True)
        return [tuple(words[place] for value, place in zip(*row, strict=True) if value > -torch.inf) for row in rows]
