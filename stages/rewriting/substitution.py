"""Words replaced by other words: each with a probability, by one of those that a table has for it.

After Jiao et al. 2020 (TinyBERT), algorithm 1, where it replaces words of several tokens by their neighbours among
GloVe's vectors. Here the table is a list of synonyms, or a model's own input embeddings, which know words of one token
alone: others stay as they are.
"""

from collections.abc import Callable, Sequence
from random import Random

from stages.rewriting.words import Word, cased_like, with_words, words_of

Others = Callable[[str], Sequence[str]]
"""What may stand for a word; nothing where the table does not know it."""


def replace_words(text: str, share: float, others: Others, seed: int) -> str:
    """The text with each of its words replaced with probability ``share``."""
    random = Random(seed)
    chosen: dict[Word, str] = {}
    for word in words_of(text):
        change, which = random.random(), random.random()
        several = others(word.text) if change < share else ()
        if several:
            chosen[word] = cased_like(word.text, several[int(which * len(several))])
    return with_words(text, chosen)
