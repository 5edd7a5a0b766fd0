"""The rules by which candidates are filtered and ordered by a teacher's outputs: pure functions of arrays with one
entry for each candidate of each training row."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """``kept``: whether an entry has passed all rules so far. ``label``: the class that the teacher predicts for it, or
    0 where no rule needs classes. ``distance``: what entries are ordered by."""

    kept: Mask
    label: Numbers
    distance: Floats


def highest_probability(logits_NC: npt.NDArray[np.generic]) -> Floats:
    """The highest softmax probability of each row of logits, [N]."""
    shifted_NC = logits_NC.astype(np.float64) - logits_NC.max(1, keepdims=True)
    highest_N: Floats = 1 / np.exp(shifted_NC).sum(1)
    return highest_N


def within_bounds(distance: Floats, least: float, most: float, kept: Mask) -> tuple[Mask, Mapping[str, int]]:
    """``kept`` without entries at distance 0, nearer than ``least`` or farther than ``most``; and the number of entries
    that each of these rules removes."""
    same = kept & ~(distance > 0)
    near = kept & ~same & (distance < least)
    far = kept & ~same & (distance > most)
    taken = {"by_rerank": same, "by_min_distance": near, "by_max_distance": far}
    return kept & ~same & ~near & ~far, {name: int(mask.sum()) for name, mask in taken.items()}


def balanced(scores: Scores, rank: Numbers, tie: npt.NDArray[np.uint64], times: float) -> Mask:
    """``scores.kept`` reduced so that no class has more than ``times`` the entries of the rarest class. A class keeps
    its nearest entries, at equal distance those of lower rank, then of lower ``tie``. A class without entries does not
    count as the rarest."""
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


def first_of_each_row(row: Numbers, rank: Numbers, distance: Floats | None, kept: Mask, k: int) -> Numbers:
    """The indices of at most ``k`` kept entries of each row, ordered by row, then by distance, if it is given, then by
    their previous rank."""
    order = np.lexsort((rank, row) if distance is None else (rank, distance, row))
    order = order[kept[order]]
    starts = np.flatnonzero(np.diff(row[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    found: Numbers = order[place < k]
    return found
