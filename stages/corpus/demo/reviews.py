"""A seeded generator of short reviews, labelled 0 (negative) or 1 (positive): the task of the demo.

With it ``make demo`` needs no download. It is a demonstration and no benchmark: never cite its scores as evidence. It
is built to show that a teacher is better than a small student and that the teacher's soft targets help the student:

- It has more sentiment words than a small training set covers. Some of the rarer words are reserved for validation and
  test, where only a pretrained model knows them.
- In many sentences a single word misleads: negation, contrast, comparison, mixed aspects, expectations.
- Labels of ``train`` alone are noisy: a share ``NOISE`` is flipped, as a careless annotator would. A holdout cut from
  ``train`` has the same noise; validation and test are clean.

The generator draws from ``random.Random(seed).random()`` only, the one method whose sequence Python guarantees, so that
a seed gives the same rows on every machine and version.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from stages.corpus.demo.lexicon import read_lexicon

NOISE = 0.10
"""The share of labels in ``train`` that are flipped."""

RESERVED = 0.5
"""The share of each list's rarer words (all but the first ``COMMON``) that ``train`` never uses."""

RARE = 0.5
"""The probability that a sentiment word of validation or test is drawn from the reserved words."""

COMMON = {"adjective": 30, "thing": 10, "deed": 10, "verdict": 8}
"""Number of words at the head of each list that are never reserved."""

SKEW = 1.5
"""A word's position in a list of n is n * r**SKEW for uniform r: a higher value draws common words more often."""

Row = dict[str, str | int]
Item = TypeVar("Item")
_FIELD = re.compile(r"\{([a-z_]+?)(\d?)\}")
_ARTICLE = re.compile(r"\b(a) (?=([a-z-]+))", re.IGNORECASE)
_SENTIMENT = {
    "same": ("adjective", True),
    "thing": ("thing", True),
    "deed": ("deed", True),
    "verdict": ("verdict", True),
    "opposite": ("adjective", False),
    "opposite_thing": ("thing", False),
    "opposite_deed": ("deed", False),
}


@dataclass(frozen=True, slots=True)
class ReviewWords:
    """Words by (kind, label): ``known`` may occur in every split, ``reserved`` in validation and test only."""

    known: dict[tuple[str, int], tuple[str, ...]]
    reserved: dict[tuple[str, int], tuple[str, ...]]


def generate(seed: int, train: int, validation: int, test: int) -> dict[str, list[Row]]:
    """Split name -> rows ``{"sentence": str, "label": 0 | 1}``. No sentence occurs twice, within or across splits."""
    rng = random.Random(seed)
    vocabulary = split_vocabulary(rng)
    used_sentences: set[str] = set()
    rare = {"train": 0.0, "validation": RARE, "test": RARE}
    counts = {"train": train, "validation": validation, "test": test}
    splits = {
        name: [_new_row(rng, vocabulary, rare[name], used_sentences) for _ in range(n)] for name, n in counts.items()
    }
    splits["train"] = [_annotate(rng, row) for row in splits["train"]]
    return splits


def split_vocabulary(rng: random.Random) -> ReviewWords:
    """Divide each list into words for all splits and reserved words. The division differs from seed to seed."""
    known, reserved = {}, {}
    for kind, by_label in read_lexicon().words.items():
        for label, listed in by_label.items():
            common, rarer = listed[: COMMON[kind]], _shuffled(rng, listed[COMMON[kind] :])
            cut = round(len(rarer) * (1 - RESERVED))
            known[kind, label], reserved[kind, label] = common + rarer[:cut], rarer[cut:]
    return ReviewWords(known, reserved)


def sentence(rng: random.Random, vocabulary: ReviewWords, rare: float, family: str, label: int) -> str:
    """A sentence of the family with the polarity of ``label``. Each sentiment word is drawn from the reserved ones with
    probability ``rare``."""
    lexicon = read_lexicon()
    domain = _pick(rng, lexicon.domains)
    nouns = {"product": _shuffled(rng, domain.products), "aspect": _shuffled(rng, domain.aspects)}
    used: set[str] = set()

    def fill(field: re.Match[str]) -> str:
        name, place = field[1], int(field[2] or 1) - 1
        if name in nouns:
            return nouns[name][place]
        if name in lexicon.choices:
            return _pick(rng, lexicon.choices[name])
        kind, same = _SENTIMENT[name]
        return _word(rng, vocabulary, rare, (kind, label if same else 1 - label), used)

    text = _FIELD.sub(fill, _pick(rng, lexicon.families[family].patterns))
    text = _ARTICLE.sub(_article, text)
    return f"{text[0].upper()}{text[1:]}."


def _new_row(rng: random.Random, vocabulary: ReviewWords, rare: float, used_sentences: set[str]) -> Row:
    """A row whose sentence is not in ``used_sentences``; its sentence is added there."""
    while True:
        label = int(rng.random() < 0.5)
        text = sentence(rng, vocabulary, rare, _family(rng), label)
        if text not in used_sentences:
            used_sentences.add(text)
            return {"sentence": text, "label": label}


def _annotate(rng: random.Random, row: Row) -> Row:
    """The row with its label flipped with probability ``NOISE``."""
    flip = rng.random() < NOISE
    return {"sentence": row["sentence"], "label": 1 - int(row["label"]) if flip else row["label"]}


def _family(rng: random.Random) -> str:
    """The name of a family of sentences, drawn with its weight."""
    families = read_lexicon().families
    left = rng.random() * sum(family.weight for family in families.values())
    for name, family in families.items():
        if left < family.weight:
            return name
        left -= family.weight
    return name  # only reached when the subtractions round to a little more than the sum


def _word(rng: random.Random, vocabulary: ReviewWords, rare: float, key: tuple[str, int], used: set[str]) -> str:
    """A word of the kind and label ``key`` that is not in ``used`` yet; it is added there."""
    while True:
        listed = vocabulary.reserved[key] if rng.random() < rare else vocabulary.known[key]
        word = listed[int(len(listed) * rng.random() ** SKEW)]
        if word not in used:
            used.add(word)
            return word


def _article(found: re.Match[str]) -> str:
    """``a`` or ``an`` with a space, by the first sound of the next word."""
    article, word = found[1], found[2]
    vowel = word == "honest" or (word[0] in "aeiou" and word != "one-note")
    return f"{article}n " if vowel else f"{article} "


def _pick(rng: random.Random, items: Sequence[Item]) -> Item:
    return items[int(len(items) * rng.random())]


def _shuffled(rng: random.Random, items: Sequence[Item]) -> tuple[Item, ...]:
    """The items in random order (Fisher-Yates)."""
    out = list(items)
    for last in range(len(out) - 1, 0, -1):
        other = int((last + 1) * rng.random())
        out[last], out[other] = out[other], out[last]
    return tuple(out)
