"""Columns of a store as memory-mapped files of this node, shared by all workers, later students and later runs.

The first reader decodes the columns that it needs, shard by shard, into one file a column; later readers map it. Pages
of a mapped file belong to the kernel: the memory of a training does not grow with its store.

An entry of the cache folder (``stages/cache_folder.py``), named after the content of its store, holds:

    row_keys       16 bytes a row, in the store's order
    <column>       width float16 or float32 a row; of a store that keeps positions, all rows end to end, and so are
                   logits of entries, whose number a row is in ``entry_counts``
    shards.json    size and time of each sound shard: name -> [[bytes, nanoseconds], ...], one pair for each copy of the
                   store that was read

What was decoded was checked, page by page, and stays what it was. A shard that has changed since is compared with its
checksum, so that a store which was damaged later does not go unnoticed while its sound copy is read.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.atomic import replacing
from stages.cache_folder import CacheFolder
from stages.checksum import file_sha256
from stages.corpus.batches import Rows
from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import Layout, ShardFile, Store, read_store, scales_name, shard_name, store_digest
from stages.outputs.parquet import (
    SCALED,
    Array,
    Keys,
    check_footer,
    count_values,
    float_batches,
    read_entry_logits,
    read_keys,
    read_lengths,
    read_logits,
    read_scales,
    read_tokens,
)
from stages.outputs.quantization import dequantise

Column = npt.NDArray[np.generic]

KEYS = "row_keys"
LENGTH = "length"
COUNTS = "entry_counts"
"""The file with the number of entries of each row, of a store with logits of entries."""
SHARDS = "shards.json"
COPIES = 8
"""The most copies of a shard whose size and time are noted, the latest ones."""


class Columns(Protocol):
    """Columns of a pooled store, row i of each for row i of the split."""

    def gather(self, name: str, rows: Rows, /) -> Column:
        """[len(rows), width], float16 or float32; logits of entries are [len(rows), W, width], padded with 0."""
        ...


class Positions(Protocol):
    """Columns of a store that keeps positions, row i of each for row i of the split."""

    def padded(self, name: str, rows: Rows, /) -> Column:
        """[len(rows), T, width] of a column of ``tokens``, or [len(rows), heads, T, T] of one of ``scores``, in float16
        or float32; T is the length of the longest of these rows. 0 where a row is shorter."""
        ...


@dataclass(frozen=True)
class Decoded:
    """Columns of a store for the rows of a corpus. ``places[i]`` is the row of the store that row i has. While ``lock``
    is open, the files that are mapped here are not removed from the cache. ``outputs`` is the number of logits of an
    entry, 0 where logits are one vector a row."""

    columns: Mapping[str, Array]
    places: npt.NDArray[np.int64]
    lock: BinaryIO
    outputs: int = 0

    @cached_property
    def entry_logits(self) -> EntryLogits:
        """The logits of entries, for the rows of the store."""
        counts = self.columns[COUNTS][:, 0].astype(np.int64)
        return EntryLogits(self.columns["logits"].reshape(-1, self.outputs), counts)

    def gather(self, column: str, rows: Rows) -> Array:
        """[len(rows), width] of these rows of the corpus, in the type that the column is mapped in; of logits of
        entries [len(rows), W, width]."""
        if self.outputs and column == "logits":
            return self.entry_logits.padded(self.places[rows])
        gathered: Array = np.take(self.columns[column], self.places[rows], axis=0)
        return gathered


@dataclass(frozen=True)
class DecodedPositions:
    """Columns of a store that keeps positions, for the rows of a corpus. ``decoded`` maps the columns, each row after
    the other, and the row lengths."""

    decoded: Decoded
    layout: Layout

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each row of the store."""
        return self.decoded.columns[LENGTH][:, 0].astype(np.int64)

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """The place in a column after the last value of each row of the store."""
        each = self.lengths * self.layout.width if self.layout.part == "tokens" else self.layout.heads * self.lengths**2
        return np.cumsum(each)

    def padded(self, name: str, rows: Rows) -> Column:
        places, values, layout = self.decoded.places[rows], self.decoded.columns[name], self.layout
        lengths, by_state = self.lengths[places], layout.part == "tokens"
        longest = int(lengths.max(initial=0))
        shape = (longest, layout.width) if by_state else (layout.heads, longest, longest)
        found = np.zeros((len(rows), *shape), values.dtype)
        for row, (place, length) in enumerate(zip(places.tolist(), lengths.tolist(), strict=True)):
            part = (slice(length), slice(None)) if by_state else (slice(None), slice(length), slice(length))
            target = found[row][part]
            target[...] = values[self.ends[place] - target.size : self.ends[place]].reshape(target.shape)
        return found


def decode_positions(
    directory: Path,
    columns: Sequence[str],
    row_keys: Sequence[bytes],
    cache: CacheFolder,
    report: Callable[[str], None],
) -> DecodedPositions:
    """As ``decode``, for a store that keeps positions."""
    found = decode(directory, (LENGTH, *columns), row_keys, cache, report)
    return DecodedPositions(found, read_store(directory).layout)


def decode(
    directory: Path,
    columns: Sequence[str],
    row_keys: Sequence[bytes],
    cache: CacheFolder,
    report: Callable[[str], None],
) -> Decoded:
    """Map these columns of the store in ``directory`` for the rows with these keys, after decoding those that no file
    holds yet.

    ``report`` receives a line of progress for each shard that is decoded, and one if shards were damaged after they had
    been decoded: then the decoded columns are sound, the store is not. Raises ValueError, naming the row, when the
    store lacks one of the keys, and for a column that it does not have, a shard that is damaged, and a disk that is too
    full.
    """
    store = read_store(directory)
    check_columns(directory, store.layout, columns)
    by_entry = store.layout.entries and "logits" in columns
    columns = [*columns, COUNTS] if by_entry else columns
    folder = cache.decoded(store_digest(directory)[:32])
    lock = cache.hold(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "writing").open("ab") as writing:
            fcntl.flock(writing, fcntl.LOCK_EX)
            sizes = {name: _bytes(directory, store, name) for name in (KEYS, *columns)}
            missing = [name for name, size in sizes.items() if _size(folder / name) != size]
            fresh = not any((folder / name).exists() for name in (KEYS, *store.layout.schema.names))
            signatures = _check_changed_shards(directory, store, folder, fresh, report)
            if missing:
                cache.make_room(sum(sizes[name] for name in missing))
                _write(directory, store, {name: sizes[name] for name in missing}, folder, report)
            _note_shards(folder, signatures)
        mapped = {name: _mapped(folder / name, store, name) for name in (KEYS, *columns)}
        outputs = store.layout.outputs if by_entry else 0
        return Decoded(mapped, locate(mapped[KEYS], row_keys, directory), lock, outputs)
    except BaseException:
        lock.close()
        raise


def check_columns(directory: Path, layout: Layout, columns: Sequence[str]) -> None:
    """Raise ValueError for columns that the store does not have."""
    known = set(layout.schema.names)
    missing = [name for name in columns if name not in known]
    if missing:
        raise ValueError(f"{directory}: the store has no column {missing[0]}; it has {', '.join(sorted(known))}")


Signatures = dict[str, list[list[int]]]
"""Name of a shard -> [bytes, nanoseconds] of each sound copy of it. The store is known by its content, so that copies
of it at several paths are one, and a moved store is the same."""


def _check_changed_shards(
    directory: Path, store: Store, folder: Path, fresh: bool, report: Callable[[str], None]
) -> Signatures:
    """Compare the shards that are not as they were when the store was decoded, or for which there is no such note, with
    their checksums, and report damaged ones. Missing ones are left to the plan. Returns the signatures of the sound
    ones. If nothing was decoded before (``fresh``), all count as sound: each page is checked while it is decoded."""
    found, damaged = _known_shards(folder / SHARDS), []
    for name, sha256 in _checksums(store):
        path = directory / name
        if not path.exists():
            continue
        stat = path.stat()
        signature = [stat.st_size, stat.st_mtime_ns]
        if signature in found.get(name, []):
            continue
        if fresh or file_sha256(path) == sha256:
            found[name] = [*found.get(name, []), signature][-COPIES:]
        else:
            damaged.append(name)
    if damaged:
        report(
            f"{directory}: {', '.join(damaged)} damaged since the store was decoded; this machine's decoded copy is "
            f"sound and is used; stillhouse verify {directory} --repair mends the store"
        )
    return found


def _note_shards(folder: Path, signatures: Signatures) -> None:
    """Write ``SHARDS``, unless the disk is full: then the shards are compared the next time."""
    if signatures != _known_shards(folder / SHARDS):
        with suppress(OSError), replacing(folder / SHARDS, volatile=True) as draft:
            draft.write_text(json.dumps(signatures), "utf-8")


def _known_shards(file: Path) -> Signatures:
    """What ``SHARDS`` holds; {} where there is none, or one that is damaged or of an earlier version, which had the
    paths of shards for their names."""
    try:
        found = json.loads(file.read_text("utf-8"))
        return {name: [[int(size), int(time)] for size, time in copies] for name, copies in found.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _checksums(store: Store) -> Iterator[tuple[str, str]]:
    """(name, sha256) of each file that holds rows, or their scales."""
    for shard in store.shards:
        yield shard.name, shard.sha256
        if shard.scales_sha256:
            yield scales_name(shard.number), shard.scales_sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _kind(store: Store, name: str) -> tuple[np.dtype[Any], int]:
    """The type and the width that a column is mapped in, width 0 for one whose rows differ in length. Codes are mapped
    as the float32 that they stand for: float16 would round a dimension far from zero once more."""
    if name == KEYS:
        return np.dtype(np.uint8), 16
    if name in (LENGTH, COUNTS):
        return np.dtype(np.int32), 1
    if name == "logits":
        return np.dtype(np.float32), 0 if store.layout.entries else store.layout.outputs
    width = store.layout.width_of(name) if store.layout.part == "pooled" else 0
    return np.dtype(np.float16 if store.layout.precision == "float16" else np.float32), width


def _bytes(directory: Path, store: Store, name: str) -> int:
    """The size of the file of a decoded column. A column whose rows differ in length has its size from the footers of
    the shards."""
    dtype, width = _kind(store, name)
    values = store.rows * width if width else sum(count_values(directory, shard, name) for shard in store.shards)
    return values * dtype.itemsize


def _mapped(path: Path, store: Store, name: str) -> Array:
    dtype, width = _kind(store, name)
    # A plain array over the map: the subclass would cost more per gather than the gather.
    mapped: Array = np.asarray(np.memmap(path, dtype, "r", shape=(store.rows, width) if width else None))
    return mapped


# --- writing --------------------------------------------------------------------------------------


def _write(
    directory: Path, store: Store, sizes: Mapping[str, int], folder: Path, report: Callable[[str], None]
) -> None:
    """Write the files of the columns of ``sizes``, each of so many bytes, whole or not at all. No other process writes
    here meanwhile."""
    needed = sum(sizes.values())
    for draft in folder.glob(".*.tmp"):
        draft.unlink()  # of a process that was killed
    try:
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with ExitStack() as stack:
            drafts = {name: stack.enter_context(replacing(folder / name, volatile=True)) for name in sizes}
            _fill(directory, store, drafts, report)
            for name, draft in drafts.items():
                if draft.stat().st_size != sizes[name]:
                    raise ValueError(
                        f"{directory}: column {name} does not have the {store.rows} rows of store.json; verify it"
                    )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(folder).free
        raise ValueError(
            f"{folder.parent}: {free:,} bytes are free, decoding {directory} takes {needed:,}; free some, "
            "or set STILLHOUSE_CACHE to a folder on another disk"
        ) from error


def _fill(directory: Path, store: Store, drafts: Mapping[str, Path], report: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        files = {name: stack.enter_context(draft.open("wb")) for name, draft in drafts.items()}
        for done, shard in enumerate(store.shards):
            check_footer(directory, shard)
            report(f"decodes the teacher's outputs once for this node: shard {done + 1} of {len(store.shards)}")
            for name, file in files.items():
                for values in _shard_values(directory, shard, store.layout, name):
                    file.write(np.ascontiguousarray(values).data)


def _shard_values(directory: Path, shard: ShardFile, layout: Layout, name: str) -> Iterator[Array]:
    path = directory / shard_name(shard.number)
    if name == KEYS:
        yield read_keys(path)
    elif name == "logits":
        yield read_entry_logits(path, layout).values if layout.entries else read_logits(path, layout)
    elif name == COUNTS:
        yield read_entry_logits(path, layout).counts.astype(np.int32)
    elif name == LENGTH:
        yield read_lengths(path)
    elif layout.part != "pooled":
        values = read_tokens(path, layout, name)[0]
        scaled = layout.precision == SCALED
        yield dequantise(values, read_scales(directory, shard.number, [name])[name]) if scaled else values
    else:
        yield from float_batches(directory, shard.number, layout, name)


# --- joining --------------------------------------------------------------------------------------


def locate(stored: Keys, row_keys: Sequence[bytes], directory: Path) -> npt.NDArray[np.int64]:
    """The store's row for each key: a join by content, whatever the order of either."""
    known = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(stored), [None, pa.py_buffer(stored)])
    places = pc.index_in(pa.array(row_keys, pa.binary(16)), value_set=known)
    if places.null_count:
        row = int(np.flatnonzero(np.asarray(places.is_null()))[0])
        raise ValueError(
            f"{directory}: the store lacks {places.null_count} of {len(row_keys)} rows, the first is row {row} "
            f"({row_keys[row].hex()}); run the teach stage over this corpus"
        )
    found: npt.NDArray[np.int64] = places.to_numpy().astype(np.int64)
    return found
