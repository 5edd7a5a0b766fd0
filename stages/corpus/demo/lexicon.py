"""The words and sentence patterns of the generated reviews, read from ``lexicon.yaml`` beside this module."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

LABELS = {1: "positive", 0: "negative"}
"""A review's label -> its name in the file."""


@dataclass(frozen=True, slots=True)
class ProductDomain:
    """A kind of product: what products of this kind are called, and which of their aspects a review may mention."""

    products: tuple[str, ...]
    aspects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SentenceFamily:
    """Patterns of one kind, and the weight with which that kind is drawn. The weights of all families sum to 1."""

    weight: float
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What reviews are made of. ``words`` maps a kind (``adjective``, ``thing``, ``deed``, ``verdict``) and a label to
    the words or phrases with that polarity, the common ones first. ``choices`` maps the fields without polarity
    (``frame``, ``degree``, ``critic``) to what may fill them."""

    words: Mapping[str, Mapping[int, tuple[str, ...]]]
    choices: Mapping[str, tuple[str, ...]]
    domains: tuple[ProductDomain, ...]
    families: Mapping[str, SentenceFamily]


@cache
def read_lexicon() -> Lexicon:
    """The packaged lexicon, parsed once per process."""
    content = yaml.safe_load((files(__package__) / "lexicon.yaml").read_text("utf-8"))
    return Lexicon(
        words={
            "adjective": _by_label(content["adjectives"], str.split),
            "thing": _by_label(content["things"], str.split),
            "deed": _by_label(content["deeds"], str.split),
            "verdict": _by_label(content["verdicts"], tuple),
        },
        choices={name: tuple(content[f"{name}s"]) for name in ("frame", "degree", "critic")},
        domains=tuple(ProductDomain(tuple(one["products"]), tuple(one["aspects"])) for one in content["domains"]),
        families={
            name: SentenceFamily(family["weight"], tuple(family["patterns"]))
            for name, family in content["families"].items()
        },
    )


def _by_label(content: Mapping[str, Any], parse: Any) -> dict[int, tuple[str, ...]]:
    return {label: tuple(parse(content[name])) for label, name in LABELS.items()}
