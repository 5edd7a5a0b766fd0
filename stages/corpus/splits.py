"""Chooses the rows of samples and splits by their content, independent of their order.

Rows are ranked by a keyed hash of their row key. The choice is therefore random with a seed, the same for a shuffled
file, and changes little when rows are added.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from stages.specs.corpus import MOST_HELD_OUT

LEAST_HELD_OUT_OF = 4
"""A least number of held-out rows applies up to one row in this many of train."""

DEV_SHARE = 0.1
"""The share of train that becomes the dev split of a task without one."""


@dataclass(frozen=True, slots=True)
class SampleSplit:
    """A table divided in two: the rows that stay and the rows that were cut off, each in their previous order."""

    kept: pa.Table
    cut_off: pa.Table


def sample(rows: pa.Table, count: int | None, seed: int) -> pa.Table:
    """A seeded sample of ``count`` rows in their previous order; all rows if ``count`` is None or there are no more."""
    if count is None or count >= rows.num_rows:
        return rows
    keys = rows["row_key"].to_pylist()
    occurrences = _occurrences(keys, rows["label"].to_pylist())
    order = sorted(range(len(keys)), key=lambda row: _rank(b"sample", seed, keys[row], occurrences[row]))
    return take(rows, order[:count])


def cut(rows: pa.Table, count: int, seed: int, purpose: bytes) -> SampleSplit:
    """Cut off ``count`` rows. Rows with equal keys stay together, so it may be fewer rows, but at least one.

    ValueError where all rows have the same key.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(rows["row_key"].to_pylist()):
        groups[key].append(row)
    if len(groups) < 2:
        raise ValueError(f"train: {rows.num_rows} rows, all of the same text; a {purpose.decode()} split needs 2 texts")
    ranked = sorted(groups, key=lambda key: _rank(purpose, seed, key, 0))
    chosen: list[int] = []
    for key in ranked:
        if len(chosen) + len(groups[key]) <= count:
            chosen += groups[key]
    chosen = chosen or groups[min(ranked, key=lambda key: len(groups[key]))]
    off = set(chosen)
    return SampleSplit(take(rows, (row for row in range(rows.num_rows) if row not in off)), take(rows, off))


def holdout_rows(rows: int, share: float, least: int = 0) -> int:
    """The number of rows to hold out: ``share`` of ``rows``, or ``least`` where that is more, though not more than a
    quarter of ``rows`` for that reason; from 1 to ``MOST_HELD_OUT``. 0 for share 0."""
    if not share:
        return 0
    return min(MOST_HELD_OUT, max(_at_least_one(rows, share), min(least, rows // LEAST_HELD_OUT_OF)))


def dev_rows(rows: int) -> int:
    """The number of rows of train that become the dev split."""
    return _at_least_one(rows, DEV_SHARE)


def _at_least_one(rows: int, share: float) -> int:
    return max(1, int(rows * share + 0.5))


def take(rows: pa.Table, chosen: Iterable[int]) -> pa.Table:
    """The chosen rows in ascending order, copied into buffers of their own."""
    return rows.take(pa.array(sorted(chosen), pa.int64())).combine_chunks()


def _rank(purpose: bytes, seed: int, key: bytes, occurrence: int) -> bytes:
    """The rank of a row. Ranks for different purposes are independent, so sampling does not influence the holdout."""
    numbers = seed.to_bytes(8, "little", signed=True), occurrence.to_bytes(8, "little")
    return blake2b(numbers[0] + key + numbers[1], digest_size=16, person=purpose).digest()


def _occurrences(keys: list[bytes], labels: list[int | float | None]) -> list[int]:
    """For each row, how many rows with the same key precede it, where rows with equal keys are ordered by label. Rows
    equal in key and label are interchangeable, so the result does not depend on the order of the rows."""
    counts = Counter(keys)
    order = (row for row, key in enumerate(keys) if counts[key] > 1)
    occurrences, counted = [0] * len(keys), Counter[bytes]()
    for row in sorted(order, key=lambda row: (keys[row], labels[row] is not None, labels[row] or 0, row)):
        occurrences[row] = counted[keys[row]]
        counted[keys[row]] += 1
    return occurrences


def duplicates(rows: pa.Table) -> int:
    """The number of rows whose key an earlier row has too."""
    return int(rows.num_rows - pc.count_distinct(rows["row_key"]).as_py())
