"""The catalogue of named methods: those of papers, as values on the axes, with the sources of their settings.

A recipe names a method with ``use`` and may change any axis. The axes are in ``stages/specs/method.py`` and
``stages/specs/layers.py``. ``docs/methods.md`` is generated from this catalogue by ``docs/generate/methods.py``.
"""

from collections.abc import Mapping

from pipeline.errors import RequestError, nearest
from pipeline.methods.adversaries import ADVERSARIES
from pipeline.methods.begin import WHERE_TO_BEGIN, Suggestion
from pipeline.methods.candidates import CANDIDATES
from pipeline.methods.edges import EDGES
from pipeline.methods.embeddings import EMBEDDING_BY_NAME, EMBEDDING_METHODS, EmbeddingMethod
from pipeline.methods.labels import LABELS
from pipeline.methods.layers import LAYERS
from pipeline.methods.mixtures import MIXTURES
from pipeline.methods.named import NamedMethod, check_taught_by, default_teacher
from pipeline.methods.schedules import SCHEDULES
from pipeline.methods.tokens import TOKENS

SECTIONS: Mapping[str, tuple[NamedMethod, ...]] = {
    "Labels alone": LABELS,
    "The vanilla loss, with different teachers": EDGES,
    "Schedules over epochs": SCHEDULES,
    "Layers": (*LAYERS, *MIXTURES, *TOKENS),
    "Additional texts": CANDIDATES,
    "Adversaries": ADVERSARIES,
}
"""The methods by section, in the order of ``docs/methods.md``."""

METHODS: tuple[NamedMethod, ...] = tuple(named for section in SECTIONS.values() for named in section)

BY_NAME: Mapping[str, NamedMethod] = {named.name: named for named in METHODS}

__all__ = [
    "BY_NAME",
    "EMBEDDING_BY_NAME",
    "EMBEDDING_METHODS",
    "METHODS",
    "SECTIONS",
    "WHERE_TO_BEGIN",
    "EmbeddingMethod",
    "NamedMethod",
    "Suggestion",
    "check_taught_by",
    "default_teacher",
    "find",
]


def find(name: str) -> NamedMethod:
    """The method of that name. RequestError names the nearest."""
    if name not in BY_NAME:
        raise RequestError(f"method: {name} is no method; {nearest(name, BY_NAME)}")
    return BY_NAME[name]
