"""How candidates are judged by what a teacher said: pure functions of arrays, an entry for each candidate of a row."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """``kept`` are the entries that are still in; ``label`` the class that the teacher has each in (0 where nobody
    asks); ``distance`` by what they are ordered."""

    kept: Mask
    label: Numbers
    distance: Floats


def highest(logits_NC: npt.NDArray[np.generic]) -> Floats:
    """The highest softmax probability of each row, [N]."""
    shifted_NC = logits_NC.astype(np.float64) - logits_NC.max(1, keepdims=True)
    highest_N: Floats = 1 / np.exp(shifted_NC).sum(1)
    return highest_N


def within(distance: Floats, least: float, most: float, kept: Mask) -> tuple[Mask, Mapping[str, int]]:
    """The entries that are still in, without those that are where the row itself is, nearer than ``least`` or farther
    than ``most``; and how many each rule took."""
    same = kept & ~(distance > 0)
    near = kept & ~same & (distance < least)
    far = kept & ~same & (distance > most)
    taken = {"by_rerank": same, "by_min_distance": near, "by_max_distance": far}
    return kept & ~same & ~near & ~far, {name: int(mask.sum()) for name, mask in taken.items()}


def balanced(scores: Scores, rank: Numbers, tie: npt.NDArray[np.uint64], times: float) -> Mask:
    """The entries that are still in when no class keeps more than ``times`` as many as the rarest has: the nearest, of
    equally near ones those of lower rank, then of lower ``tie``. A class without any entry is not the rarest."""
    kept = scores.kept.copy()
    counts = np.bincount(scores.label[kept])
    if not len(counts):
        return kept
    most = int(times * counts[counts > 0].min())
    order = np.lexsort((tie, rank, np.nan_to_num(scores.distance, nan=np.inf)))
    for label in np.flatnonzero(counts > most):
        of_class = order[kept[order] & (scores.label[order] == label)]
        kept[of_class[most:]] = False
    return kept


def first(row: Numbers, rank: Numbers, distance: Floats | None, kept: Mask, k: int) -> Numbers:
    """The entries of each row that remain, at most ``k``, by distance, where it is given, and by their old rank. Rows
    are in their order."""
    order = np.lexsort((rank, row) if distance is None else (rank, distance, row))
    order = order[kept[order]]
    starts = np.flatnonzero(np.diff(row[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    found: Numbers = order[place < k]
    return found
