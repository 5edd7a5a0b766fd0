"""MinHash of word triples: texts that share most triples share a band (Broder 1997; banding as in Leskovec, Rajaraman
and Ullman, Mining of Massive Datasets, section 3.4). numpy alone.

A text has ``BANDS`` x ``ROWS`` minima. Two texts whose sets of triples have Jaccard similarity s agree in each minimum
with probability s, so in at least one whole band with probability p = 1 - (1 - s^8)^8:

    s      0.3     0.5    0.6    0.7    0.8    0.9    0.95
    p      0.0005  0.03   0.13   0.38   0.77   0.99   1.00
"""

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

BANDS, ROWS = 8, 8
SEED = 1997
TRIPLE = 3
TEXTS_AT_ONCE = 2048

WORD = re.compile(r"\w+")


def bands(texts: Sequence[str]) -> Hashes:
    """A hash of the minima of each band of each text, [``BANDS``, len(texts)]: equal where all minima of a band are."""
    found = np.empty((BANDS, len(texts)), np.uint64)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        shingles, starts = _triples(texts[start : start + TEXTS_AT_ONCE])
        for band in range(BANDS):
            joined = np.zeros(len(starts), np.uint64)
            for number in range(band * ROWS, (band + 1) * ROWS):
                minima = np.minimum.reduceat(_mixed(shingles ^ SALTS[number]), starts)
                joined = _mixed(joined * np.uint64(31) + minima)
            found[band, start : start + len(starts)] = joined
    return found


def _triples(texts: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of the word triples of all texts, one text after the other, and the position of each text's first triple.
    A text has at least one: a text of one or two words repeats its last word, and a text without words counts as one
    word."""
    known: dict[str, int] = {}
    words: list[int] = []
    counts = np.empty(len(texts), np.int64)
    for place, text in enumerate(texts):
        own = WORD.findall(text.casefold()) or [text]
        own += own[-1:] * (TRIPLE - len(own))
        counts[place] = len(own)
        for word in own:
            if word not in known:
                known[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        words += [known[word] for word in own]
    hashed = np.array(words, np.uint64)
    whole = np.zeros(len(hashed), np.uint64)
    for step in range(TRIPLE):
        whole = _mixed(whole + np.roll(hashed, -step))
    ends = np.cumsum(counts)
    inside = np.ones(len(hashed), np.bool_)
    for step in range(1, TRIPLE):
        inside[ends - step] = False
    triples = counts - (TRIPLE - 1)
    return whole[inside], np.cumsum(triples) - triples


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64, modulo 2^64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


SALTS = _mixed(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(SEED))
