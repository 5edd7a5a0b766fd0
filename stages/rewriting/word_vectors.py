"""The nearest words of a word that is no single token: by vectors from a file, such as GloVe's, or by those of its
pieces. Runs in a worker."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.rewriting.vector_file import read_vectors
from stages.rewriting.words import WORD

Vectors = npt.NDArray[np.float32]


class NearestByVector:
    """The ``nearest`` words of a word, by the cosine of vectors; each is found once. ``vector_of`` gives the vector [D]
    of a word, None if it has none; ``vectors_WD`` are those of the ``words`` that may be found."""

    def __init__(
        self,
        words: Sequence[str],
        vectors_WD: Vectors,
        vector_of: Callable[[str], Vectors | None],
        nearest: int,
    ) -> None:
        self.words, self.vector_of, self.nearest = words, vector_of, nearest
        self.vectors_WD = vectors_WD / np.maximum(np.linalg.norm(vectors_WD, axis=1, keepdims=True), 1e-12)
        self.found: dict[str, tuple[str, ...]] = {}

    def __call__(self, word: str) -> tuple[str, ...]:
        """At most ``nearest`` words, the nearest first, none of them the word itself in another case; none for a word
        without a vector."""
        if word not in self.found:
            self.found[word] = self._nearest(word)
        return self.found[word]

    def _nearest(self, word: str) -> tuple[str, ...]:
        vector_D = self.vector_of(word)
        if vector_D is None:
            return ()
        # One word at a time: the bits of a product may depend on what else is multiplied with it.
        order = np.argsort(-(self.vectors_WD @ vector_D), kind="stable")
        others = (self.words[place] for place in order if self.words[place].casefold() != word.casefold())
        return tuple(other for other, _ in zip(others, range(self.nearest), strict=False))


def nearest_in_file(path: Path, nearest: int) -> NearestByVector:
    """The nearest words among those of a file of word vectors. Raises ValueError for a file of another form."""
    words, rows = [], []
    for word, numbers in read_vectors(path):
        if WORD.fullmatch(word):
            words.append(word)
            rows.append(np.array(numbers, np.float32))
    if not words:
        raise ValueError(f"{path}: has no vector of a word of letters; give word vectors of the task's language")
    places = {word: place for place, word in reversed(list(enumerate(words)))}
    vectors_WD = np.stack(rows)

    def vector_of(word: str) -> Vectors | None:
        place = places.get(word, places.get(word.casefold()))
        return None if place is None else vectors_WD[place]

    return NearestByVector(words, vectors_WD, vector_of, nearest)


def nearest_by_pieces(
    words: Sequence[str], ids: Sequence[int], table_VD: Vectors, tokenizer: Any, nearest: int
) -> NearestByVector:
    """The nearest of ``words``, whose tokens are ``ids``, to the mean of the vectors of a word's pieces. ``table_VD``
    is a model's table of word embeddings."""

    def vector_of(word: str) -> Vectors | None:
        pieces = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        known = [piece for piece in pieces if piece != tokenizer.unk_token_id]
        return np.asarray(table_VD[known].mean(0), np.float32) if known else None

    return NearestByVector(words, table_VD[list(ids)], vector_of, nearest)
