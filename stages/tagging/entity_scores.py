"""Precision, recall and F1 of entities, as conlleval computes them (Tjong Kim Sang and De Meulder 2003): an entity is
right if its first word, its last word and its type are. Sequences that are not valid in IOB2 are read as conlleval
reads them (``stages.tagging.tags.spans``)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.tagging.tags import EntitySpan, spans


@dataclass(frozen=True, slots=True)
class EntityScore:
    """The scores x 100 of the entities of one type, or of all (``type``: ""): ``precision`` is the share of the
    ``predicted`` entities that are ``right``, and ``recall`` that of the ``entities`` of the labels; ``f1`` is their
    harmonic mean. A share of none is 0."""

    type: str
    entities: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        return 100 * self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return 100 * self.right / self.entities if self.entities else 0.0

    @property
    def f1(self) -> float:
        both = self.entities + self.predicted
        return 200 * self.right / both if both else 0.0


@dataclass(frozen=True, slots=True)
class EntityReport:
    """The scores of all entities together (``micro``), and of each type that occurs in labels or predictions, in
    alphabetical order. ``accuracy`` is the share x 100 of the ``words`` with the right tag. ``lost`` is the number of
    words without a prediction, which count as O."""

    micro: EntityScore
    by_type: tuple[EntityScore, ...]
    words: int
    accuracy: float
    lost: int


def entity_report(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], lost: int = 0) -> EntityReport:
    """The scores of predicted tags against the labels, each a sequence of tags for each sentence. ``lost`` is carried
    into the report. Raises ValueError for other numbers of sentences or words, and for no words."""
    if len(labels) != len(predictions):
        raise ValueError(f"entity F1: {len(predictions)} predicted sentences for {len(labels)}; give one for each")
    entities, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    words = same = 0
    for row, (known, found) in enumerate(zip(labels, predictions, strict=True), start=1):
        if len(known) != len(found):
            raise ValueError(f"entity F1: sentence {row} has {len(found)} predictions for {len(known)} words")
        words += len(known)
        same += sum(one == other for one, other in zip(known, found, strict=True))
        own, others = set(spans(known)), set(spans(found))
        entities.update(_types(own))
        predicted.update(_types(others))
        right.update(_types(own & others))
    if not words:
        raise ValueError("entity F1: no words; give at least 1")
    types = sorted(entities | predicted)
    by_type = tuple(EntityScore(kind, entities[kind], predicted[kind], right[kind]) for kind in types)
    micro = EntityScore("", entities.total(), predicted.total(), right.total())
    return EntityReport(micro, by_type, words, 100 * same / words, lost)


def _types(found: Iterable[EntitySpan]) -> list[str]:
    return [span.type for span in found]
