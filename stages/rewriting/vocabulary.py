"""The words of a tokenizer's vocabulary: tokens that are whole words. Runs where transformers is loaded."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stages.rewriting.words import WORD


@dataclass(frozen=True)
class Vocabulary:
    """``words[i]`` is the word that the token ``ids[i]`` spells. In ascending order of ids."""

    ids: Sequence[int]
    words: Sequence[str]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Case-folded word -> its positions in ``words``; a cased vocabulary may have several."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, word in enumerate(self.words):
            found[word.casefold()].append(place)
        return dict(found)

    def place(self, word: str) -> int | None:
        """The position of the word as it is written, or else in another case; None where it is not a single token."""
        places = self.places.get(word.casefold(), [])
        exact = [place for place in places if self.words[place] == word]
        return next(iter(exact or places), None)


def vocabulary_of(tokenizer: Any, size: int) -> Vocabulary:
    """The tokens with ids below ``size``, the rows of the model's embedding table, that spell a word of letters and
    that the tokenizer produces for this word between spaces. This leaves out special tokens, numbers, punctuation and
    continuations of words. ValueError where there are none."""
    special = set(tokenizer.all_special_ids)
    ids = sorted(token for token in set(tokenizer.get_vocab().values()) - special if token < size)
    spelled = [
        (token, text.strip()) for token, text in zip(ids, tokenizer.batch_decode([[i] for i in ids]), strict=True)
    ]
    spelled = [(token, word) for token, word in spelled if WORD.fullmatch(word)]
    again = tokenizer([f" {word}" for _, word in spelled], add_special_tokens=False)["input_ids"] if spelled else []
    kept = [pair for pair, tokens in zip(spelled, again, strict=True) if tokens == [pair[0]]]
    if not kept:
        raise ValueError("model: no token of its vocabulary is a word of letters; give a model whose tokens are words")
    return Vocabulary([token for token, _ in kept], [word for _, word in kept])
