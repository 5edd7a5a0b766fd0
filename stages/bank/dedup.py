"""Which texts of a bank are there twice, found outside memory: by sorted files of 64-bit keys. numpy alone.

Each piece of raw texts leaves ``keys-<piece>.npy``, uint64 [kinds, rows], sorted along its rows, and
``order-<piece>.npy``, uint32 [kinds, rows], whose keys they are. Kind 0 is the text itself, without case; the others
are the bands of ``minhash``. A row goes if an earlier row, in the order of files and rows, has one of its
keys, whether that row stays or not: so a bucket, a range of the keys of one kind, is decided by itself. Two different
texts among n share a key of 64 bits with probability n^2 / 2^65: 0.03 for 10^9.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.bank.minhash import BANDS, bands

BUCKET_ROWS = 2**22
"""Keys in memory at once, of 16 bytes each and as many again to sort them."""

KEPT, DUPLICATE, NEAR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The ``number``-th of ``of`` equal ranges of the keys of one kind."""

    kind: int
    number: int
    of: int


def kinds(near: bool) -> int:
    return 1 + BANDS * near


def buckets(rows: int, near: bool) -> list[KeyRange]:
    count = max(1, -(-rows // BUCKET_ROWS))
    return [KeyRange(kind, number, count) for kind in range(kinds(near)) for number in range(count)]


def text_keys(texts: Sequence[tuple[str, ...]], near: bool) -> npt.NDArray[np.uint64]:
    """[kinds, len(texts)]. The texts are clean: white space is folded, and no control character is in them."""
    joined = ["\x1f".join(row) for row in texts]
    exact = b"".join(blake2b(text.casefold().encode(), digest_size=8).digest() for text in joined)
    found = np.frombuffer(exact, "<u8").astype(np.uint64)[None]
    return np.concatenate([found, bands(joined)]) if near else found


def write_keys(directory: Path, piece: str, keys: npt.NDArray[np.uint64]) -> None:
    order = np.argsort(keys, axis=1, kind="stable")
    save(directory / f"order-{piece}.npy", order.astype(np.uint32))
    save(directory / f"keys-{piece}.npy", np.take_along_axis(keys, order, 1))


def repeated_rows(
    directory: Path, pieces: Sequence[str], starts: Sequence[int], bucket: KeyRange
) -> npt.NDArray[np.int64]:
    """The rows, counted through all pieces, that have a key of an earlier row in this bucket. ``starts`` has the number
    of each piece's first row."""
    keys, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    first, last = (2**64 * edge // bucket.of for edge in (bucket.number, bucket.number + 1))
    for piece, start in zip(pieces, starts, strict=True):
        mapped = np.load(directory / f"keys-{piece}.npy", mmap_mode="r")[bucket.kind]
        begin = int(np.searchsorted(mapped, np.uint64(first)))
        end = len(mapped) if last == 2**64 else int(np.searchsorted(mapped, np.uint64(last)))
        if begin < end:
            order = np.load(directory / f"order-{piece}.npy", mmap_mode="r")[bucket.kind]
            keys.append(np.array(mapped[begin:end]))
            rows.append(start + order[begin:end].astype(np.int64))
    together = np.concatenate(keys)
    order = np.argsort(
        together, kind="stable"
    )  # pieces and their rows come in order, so of equal keys the first is the earliest
    together = together[order]
    again = np.zeros(len(together), np.bool_)
    again[1:] = together[1:] == together[:-1]
    return np.concatenate(rows)[order[again]]


def save(path: Path, values: npt.NDArray[np.generic]) -> None:
    """Under another name first: a file that bears its name is whole."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        np.save(file, values)
    os.replace(draft, path)
