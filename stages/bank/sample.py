"""A sample of a bank's distinct texts: those with the smallest hashes. numpy alone.

The hash is the key by which duplicates are found (kind 0 of ``dedup``): it depends on the case-folded text alone. So a
sample does not depend on the order of files and rows, and a sample of more rows contains one of fewer.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.bank.dedup import KEPT, NOT_SAMPLED

PREFIX_BITS = 16
"""Hashes are first counted by so many of their leading bits, so that only those of one range have to be in memory."""

Hashes = npt.NDArray[np.uint64]


def keep_sample(directory: Path, raw_parts: Sequence[str], states: npt.NDArray[np.uint8], rows: int) -> int:
    """Set the state of all ``KEPT`` rows but the ``rows`` with the smallest hashes to ``NOT_SAMPLED``; return their
    number. ``states`` has the state of each raw row, in the order of the raw parts; ``directory`` holds the keys."""
    counts = np.zeros(2**PREFIX_BITS, np.int64)
    for _, _, hashes in _kept_hashes(directory, raw_parts, states):
        counts += np.bincount(_prefixes(hashes), minlength=len(counts))
    total = int(counts.sum())
    if total <= rows:
        return 0
    ends = np.cumsum(counts)
    prefix = int(np.searchsorted(ends, rows, side="right"))  # the range that holds the first hash beyond the sample
    within = [hashes[_prefixes(hashes) == prefix] for _, _, hashes in _kept_hashes(directory, raw_parts, states)]
    first_left_out = np.sort(np.concatenate(within))[rows - int(ends[prefix] - counts[prefix])]
    for start, places, hashes in _kept_hashes(directory, raw_parts, states):
        states[start + places[hashes >= first_left_out]] = NOT_SAMPLED
    if isinstance(states, np.memmap):
        states.flush()  # workers on other nodes read the file
    return total - rows


def _prefixes(hashes: Hashes) -> npt.NDArray[np.int64]:
    return (hashes >> np.uint64(64 - PREFIX_BITS)).astype(np.int64)


def _kept_hashes(
    directory: Path, raw_parts: Sequence[str], states: npt.NDArray[np.uint8]
) -> Iterator[tuple[int, npt.NDArray[np.int64], Hashes]]:
    """For each raw part: the number of its first row, the places of its ``KEPT`` rows, and their hashes."""
    start = 0
    for raw_part in raw_parts:
        order = np.load(directory / f"order-{raw_part}.npy", mmap_mode="r")[0].astype(np.int64)
        hashes = np.array(np.load(directory / f"keys-{raw_part}.npy", mmap_mode="r")[0])
        kept = states[start + order] == KEPT
        yield start, order[kept], hashes[kept]
        start += len(order)
