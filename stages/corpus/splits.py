"""Which rows are sampled and which are cut off, chosen by content: never by the order of the rows.

A row's rank is a keyed hash of its row key, so the choice is a seeded random one that is the same for a
shuffled file, and little of it changes when rows are added.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

MOST_HELD_OUT = 2000
"""Rows that choose an epoch well enough; more would only be missing in train."""

DEV_SHARE = 0.1
"""The share of train that becomes the dev split of a task that has none."""


@dataclass(frozen=True, slots=True)
class SampleSplit:
    """Two disjoint parts of the same rows, each in the order they had."""

    kept: pa.Table
    off: pa.Table


def sample(rows: pa.Table, count: int | None, seed: int) -> pa.Table:
    """A seeded sample of ``count`` rows, in the order they have; all of them where there are no more."""
    if count is None or count >= rows.num_rows:
        return rows
    keys = rows["row_key"].to_pylist()
    occurrences = _occurrences(keys, rows["label"].to_pylist())
    order = sorted(range(len(keys)), key=lambda row: _rank(b"sample", seed, keys[row], occurrences[row]))
    return take(rows, order[:count])


def cut(rows: pa.Table, count: int, seed: int, purpose: bytes) -> SampleSplit:
    """Cut ``count`` rows off. Rows of one key fall on the same side, so it may be fewer, but never none.

    ValueError where all rows have one key.
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


def holdout_rows(rows: int, share: float) -> int:
    """How many of ``rows`` to hold out: the share, at least 1 and at most ``MOST_HELD_OUT``; 0 for share 0."""
    return min(MOST_HELD_OUT, _at_least_one(rows, share)) if share else 0


def dev_rows(rows: int) -> int:
    """How many rows of train become its dev split."""
    return _at_least_one(rows, DEV_SHARE)


def _at_least_one(rows: int, share: float) -> int:
    return max(1, int(rows * share + 0.5))


def take(rows: pa.Table, chosen: Iterable[int]) -> pa.Table:
    """These rows in the order they have, in buffers of their own."""
    return rows.take(pa.array(sorted(chosen), pa.int64())).combine_chunks()


def _rank(purpose: bytes, seed: int, key: bytes, occurrence: int) -> bytes:
    """The purposes are independent: being sampled says nothing about being held out."""
    numbers = seed.to_bytes(8, "little", signed=True), occurrence.to_bytes(8, "little")
    return blake2b(numbers[0] + key + numbers[1], digest_size=16, person=purpose).digest()


def _occurrences(keys: list[bytes], labels: list[int | float | None]) -> list[int]:
    """The how-manieth of its key each row is, equal keys in the order of their labels: rows of equal key and
    label cannot be told apart, so no choice among them depends on where they stand."""
    counts = Counter(keys)
    order = (row for row, key in enumerate(keys) if counts[key] > 1)
    occurrences, seen = [0] * len(keys), Counter[bytes]()
    for row in sorted(order, key=lambda row: (keys[row], labels[row] is not None, labels[row] or 0, row)):
        occurrences[row] = seen[keys[row]]
        seen[keys[row]] += 1
    return occurrences


def duplicates(rows: pa.Table) -> int:
    """Rows whose key an earlier row has."""
    return int(rows.num_rows - pc.count_distinct(rows["row_key"]).as_py())
