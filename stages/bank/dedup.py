"""Finds the duplicate texts of a bank that is larger than memory, by sorted files of 64-bit keys. numpy alone.

For each raw part there are ``keys-<part>.npy``, uint64 [kinds, rows], sorted along the rows, and ``order-<part>.npy``,
uint32 [kinds, rows], the row that each key belongs to. Kind 0 is a hash of the case-folded text; the other kinds are
the bands of ``minhash``. A row is removed if an earlier row, in the order of files and rows, has one of its keys,
whether or not that earlier row is removed itself: so each bucket, a range of the keys of one kind, is decided
independently. Some two of n different texts share a key of 64 bits with probability n^2 / 2^65: 0.03 for 10^9 texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.atomic import replacing
from stages.bank.minhash import BANDS, bands

BUCKET_ROWS = 2**22
"""Keys in memory at once: 16 bytes each with their row, and as many again while they are sorted."""

KEPT, DUPLICATE, NEAR_DUPLICATE, NOT_SAMPLED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A bucket: range ``number`` of ``of`` equal ranges of the keys of one kind."""

    kind: int
    number: int
    of: int


def kinds(near: bool) -> int:
    """Kinds of keys of a row, with or without those of near duplicates."""
    return 1 + BANDS * near


def buckets(rows: int, near: bool) -> list[KeyRange]:
    """Buckets of about ``BUCKET_ROWS`` keys or fewer that together cover all keys of ``rows`` rows."""
    count = max(1, -(-rows // BUCKET_ROWS))
    return [KeyRange(kind, number, count) for kind in range(kinds(near)) for number in range(count)]


def text_keys(texts: Sequence[tuple[str, ...]], near: bool) -> npt.NDArray[np.uint64]:
    """The keys of cleaned texts, [kinds, len(texts)]. Cleaned texts have no control characters, so one of these can
    join the texts of a pair."""
    joined = ["\x1f".join(row) for row in texts]
    exact = b"".join(blake2b(text.casefold().encode(), digest_size=8).digest() for text in joined)
    found = np.frombuffer(exact, "<u8").astype(np.uint64)[None]
    return np.concatenate([found, bands(joined)]) if near else found


def write_keys(directory: Path, raw_part: str, keys: npt.NDArray[np.uint64]) -> None:
    """Write the two files of keys [kinds, rows] of a raw part."""
    order = np.argsort(keys, axis=1, kind="stable")
    save(directory / f"order-{raw_part}.npy", order.astype(np.uint32))
    save(directory / f"keys-{raw_part}.npy", np.take_along_axis(keys, order, 1))


def has_keys(directory: Path, raw_part: str) -> bool:
    """Whether both files of keys of a raw part are there. After a power failure one name may be lost, though it was
    given before that of the raw part."""
    return all((directory / f"{kind}-{raw_part}.npy").is_file() for kind in ("order", "keys"))


def repeated_rows(
    directory: Path, raw_parts: Sequence[str], starts: Sequence[int], bucket: KeyRange
) -> npt.NDArray[np.int64]:
    """The rows, numbered across all raw parts, whose key in this bucket an earlier row has too. ``starts`` has the
    number of the first row of each raw part."""
    keys, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    first, last = (2**64 * edge // bucket.of for edge in (bucket.number, bucket.number + 1))
    for raw_part, start in zip(raw_parts, starts, strict=True):
        mapped = np.load(directory / f"keys-{raw_part}.npy", mmap_mode="r")[bucket.kind]
        begin = int(np.searchsorted(mapped, np.uint64(first)))
        end = len(mapped) if last == 2**64 else int(np.searchsorted(mapped, np.uint64(last)))
        if begin < end:
            order = np.load(directory / f"order-{raw_part}.npy", mmap_mode="r")[bucket.kind]
            keys.append(np.array(mapped[begin:end]))
            rows.append(start + order[begin:end].astype(np.int64))
    together = np.concatenate(keys)
    order = np.argsort(together, kind="stable")  # the rows are in order, so the first of equal keys is the earliest
    together = together[order]
    again = np.zeros(len(together), np.bool_)
    again[1:] = together[1:] == together[:-1]
    return np.concatenate(rows)[order[again]]


def save(path: Path, values: npt.NDArray[np.generic]) -> None:
    """Write a .npy file, whole or not at all."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.save(file, values)
