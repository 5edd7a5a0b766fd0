"""Scores of tags of words: counts of entities for each row, and the shares that they give. An entity is right if its
first word, its last word and its type are, as in conlleval (Tjong Kim Sang and De Meulder 2003)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.specs.tasks import Metric
from stages.tagging.tags import EntitySpan, spans

Labels = npt.NDArray[Any]

COUNTS = np.dtype([(name, np.int64) for name in ("entities", "predicted", "right", "words", "same")])
"""What is counted of a row: entities of its labels and of the predictions, those in both, its words, and words with the
right tag."""

PARTS: dict[Metric, tuple[str, tuple[str, ...]]] = {
    "entity_f1": ("right", ("entities", "predicted")),
    "entity_precision": ("right", ("predicted",)),
    "entity_recall": ("right", ("entities",)),
    "accuracy": ("same", ("words",)),
}
"""Metric -> the count above the line, and the counts whose mean is below it."""


def row_entities(
    tags: Sequence[str], labels: Labels, predictions: Labels, offsets: npt.NDArray[np.int64]
) -> Iterator[tuple[set[EntitySpan], set[EntitySpan], int]]:
    """Of each row, the entities of its labels, those of the predictions, and how many words have the right tag.
    ``labels`` and ``predictions`` are numbers in ``tags``; row i has those from ``offsets[i]`` on."""
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        own, found = labels[start:end], predictions[start:end]
        yield (
            set(spans([tags[tag] for tag in own])),
            set(spans([tags[tag] for tag in found])),
            int((own == found).sum()),
        )


def entity_counts(
    tags: Sequence[str], labels: Labels, predictions: Labels, offsets: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """(N,): the ``COUNTS`` of each row."""
    words = np.diff(offsets).tolist()
    rows = zip(row_entities(tags, labels, predictions, offsets), words, strict=True)
    return np.array(
        [(len(own), len(found), len(own & found), count, same) for (own, found, same), count in rows], COUNTS
    )


def entity_score(metric: Metric, counts: npt.NDArray[Any]) -> float:
    """The metric x 100 over all rows of ``counts``; 0.0 for a share of none."""
    above, below = PARTS[metric]
    whole = sum(int(counts[name].sum()) for name in below) / len(below)
    return 100.0 * int(counts[above].sum()) / whole if whole else 0.0


def counts_by_type(
    tags: Sequence[str], labels: Labels, predictions: Labels, offsets: npt.NDArray[np.int64]
) -> dict[str, tuple[int, int, int]]:
    """Type of entity -> how many the labels have, how many are predicted, and how many are in both, in alphabetical
    order of the types that occur."""
    entities, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for own, found, _ in row_entities(tags, labels, predictions, offsets):
        entities.update(span.type for span in own)
        predicted.update(span.type for span in found)
        right.update(span.type for span in own & found)
    return {kind: (entities[kind], predicted[kind], right[kind]) for kind in sorted(entities | predicted)}
