"""The demo's task: a seeded generator of short reviews, labelled 0 (negative) or 1 (positive).

It makes ``make demo`` work without a download, in minutes, and that is all it is for: a
demonstration, never cited as evidence. What it is built to show is that a teacher is better than a
small student and that its soft targets help the student, so it has, by design,

- more sentiment words than a small training set covers: part of the rarer ones are reserved for
  validation and test, where only what pretraining knows of them helps;
- sentences where single words mislead: negation, contrast, comparison, mixed aspects, expectations;
- noisy labels in ``train`` alone: ``NOISE`` of them are flipped, as careless annotators would.
  Whoever cuts a holdout slice from ``train`` gets its noise. Validation and test are clean.

Only ``random.Random(seed).random()`` is drawn from, the one method whose sequence Python promises
to keep, so a seed means the same rows everywhere.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from stages.corpus.demo import words as words

NOISE = 0.10
"""The share of labels in ``train`` that are flipped."""

RESERVED = 0.5
"""The share of the rarer words, those behind the first ``COMMON``, that ``train`` never uses."""

RARE = 0.5
"""The chance that a word of validation or test is drawn from the reserved ones."""

COMMON = {"adjective": 30, "thing": 10, "deed": 10, "verdict": 8}
"""So many words at the head of each list are never reserved."""

SKEW = 1.5
"""A word's position is n r^SKEW for uniform r: the higher, the more the head of a list prevails."""

Row = dict[str, str | int]
Item = TypeVar("Item")
_LEXICON: dict[str, dict[int, tuple[str, ...]]] = {
    "adjective": {label: tuple(text.split()) for label, text in words.ADJECTIVES.items()},
    "thing": {label: tuple(text.split()) for label, text in words.THINGS.items()},
    "deed": {label: tuple(text.split()) for label, text in words.DEEDS.items()},
    "verdict": words.VERDICTS,
}
_FIELD = re.compile(r"\{([a-z_]+?)(\d?)\}")
_ARTICLE = re.compile(r"\b(a) (?=([a-z-]+))", re.IGNORECASE)
_CHOICES = {"frame": words.FRAMES, "degree": words.DEGREES, "critic": words.CRITICS}
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
    """Words by (kind, label): those that any split may use, and those reserved for validation and test."""

    known: dict[tuple[str, int], tuple[str, ...]]
    reserved: dict[tuple[str, int], tuple[str, ...]]


def generate(seed: int, train: int, validation: int, test: int) -> dict[str, list[Row]]:
    """Rows ``{"sentence": str, "label": 0 | 1}`` of each split; no sentence occurs twice in all of them."""
    rng = random.Random(seed)
    vocabulary = split_vocabulary(rng)
    seen: set[str] = set()
    rare = {"train": 0.0, "validation": RARE, "test": RARE}
    counts = {"train": train, "validation": validation, "test": test}
    splits = {name: [_new_row(rng, vocabulary, rare[name], seen) for _ in range(n)] for name, n in counts.items()}
    splits["train"] = [_annotate(rng, row) for row in splits["train"]]
    return splits


def split_vocabulary(rng: random.Random) -> ReviewWords:
    """Reserves, anew for each seed, a share of every list's words behind its common ones."""
    known, reserved = {}, {}
    for kind, by_label in _LEXICON.items():
        for label, listed in by_label.items():
            common, rarer = listed[: COMMON[kind]], _shuffled(rng, listed[COMMON[kind] :])
            cut = round(len(rarer) * (1 - RESERVED))
            known[kind, label], reserved[kind, label] = common + rarer[:cut], rarer[cut:]
    return ReviewWords(known, reserved)


def sentence(rng: random.Random, vocabulary: ReviewWords, rare: float, family: str, label: int) -> str:
    """A sentence of the family with the polarity of ``label``; each word is reserved with chance ``rare``."""
    products, aspects = _pick(rng, words.DOMAINS)
    nouns = {"product": _shuffled(rng, products), "aspect": _shuffled(rng, aspects)}
    used: set[str] = set()

    def fill(field: re.Match[str]) -> str:
        name, place = field[1], int(field[2] or 1) - 1
        if name in nouns:
            return nouns[name][place]
        if name in _CHOICES:
            return _pick(rng, _CHOICES[name])
        kind, same = _SENTIMENT[name]
        return _word(rng, vocabulary, rare, (kind, label if same else 1 - label), used)

    text = _FIELD.sub(fill, _pick(rng, words.FAMILIES[family][1]))
    text = _ARTICLE.sub(_article, text)
    return f"{text[0].upper()}{text[1:]}."


def _new_row(rng: random.Random, vocabulary: ReviewWords, rare: float, seen: set[str]) -> Row:
    """A row whose sentence is not in ``seen``, to which it is added."""
    while True:
        label = int(rng.random() < 0.5)
        text = sentence(rng, vocabulary, rare, _family(rng), label)
        if text not in seen:
            seen.add(text)
            return {"sentence": text, "label": label}


def _annotate(rng: random.Random, row: Row) -> Row:
    """The row as a careless annotator labels it: flipped with chance ``NOISE``."""
    flip = rng.random() < NOISE
    return {"sentence": row["sentence"], "label": 1 - int(row["label"]) if flip else row["label"]}


def _family(rng: random.Random) -> str:
    """A family, drawn by its weight in the mix."""
    left = rng.random() * sum(weight for weight, _ in words.FAMILIES.values())
    for name, (weight, _) in words.FAMILIES.items():
        if left < weight:
            return name
        left -= weight
    return name  # the rounding of the sum left a trace over


def _word(rng: random.Random, vocabulary: ReviewWords, rare: float, key: tuple[str, int], used: set[str]) -> str:
    """A word not yet in the sentence, to whose words it is added."""
    while True:
        listed = vocabulary.reserved[key] if rng.random() < rare else vocabulary.known[key]
        word = listed[int(len(listed) * rng.random() ** SKEW)]
        if word not in used:
            used.add(word)
            return word


def _article(found: re.Match[str]) -> str:
    """``a`` or ``an``, by the sound of the word behind it."""
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
