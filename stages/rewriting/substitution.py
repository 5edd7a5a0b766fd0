"""Replaces words of a text, each with a given probability, by one of the alternatives that a table has for it.

After Jiao et al. 2020 (TinyBERT), algorithm 1, which replaces words of several tokens by their neighbours among GloVe
vectors. Here the table is a list of synonyms, or a model's input embeddings; these have words of a single token only,
and other words stay as they are.
"""

from collections.abc import Callable, Sequence
from random import Random

from stages.rewriting.words import Word, cased_like, with_words, words_of

Alternatives = Callable[[str], Sequence[str]]
"""Word -> the words that may replace it; none where the table does not have the word."""


def replace_words(text: str, share: float, alternatives: Alternatives, seed: int) -> str:
    """The text with each of its words replaced with probability ``share``."""
    random = Random(seed)
    chosen: dict[Word, str] = {}
    for word in words_of(text):
        change, which = random.random(), random.random()
        several = alternatives(word.text) if change < share else ()
        if several:
            chosen[word] = cased_like(word.text, several[int(which * len(several))])
    return with_words(text, chosen)
