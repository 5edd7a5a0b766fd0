"""Columns of a store as memory-mapped files of this node, shared by all workers, later students and later runs.

The first reader inflates what it needs, shard by shard, into one file a column; who comes later maps it. Pages of a
mapped file belong to the kernel: the memory of a training does not grow with its store.

    <cache>/<store>-<boot>/row_keys       16 bytes a row, in the store's order
    <cache>/<store>-<boot>/<column>       width float16 or float32 a row

A folder is named after the content of its store and the boot of the machine: a file that was written before
a power failure is never trusted, and nothing waits for the disk.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.batches import Rows
from stages.outputs.layout import Layout, ShardFile, Store, read_store, shard_name, store_digest
from stages.outputs.parquet import Array, Keys, check_footer, float_batches, read_keys, read_logits

Column = npt.NDArray[np.generic]

KEYS = "row_keys"
CACHE_BYTES = 64 << 30
"""What all folders of a cache may come to before the least recently used go."""


class Columns(Protocol):
    """Columns of a store, row i of each belonging to row i of the split."""

    def gather(self, name: str, rows: Rows, /) -> Column:
        """[len(rows), width], float16 or float32."""
        ...


@dataclass(frozen=True)
class Decoded:
    """Columns of a store for the rows of a corpus. ``places[i]`` is the row of the store that row i has."""

    columns: Mapping[str, Array]
    places: npt.NDArray[np.int64]
    lock: BinaryIO

    def gather(self, column: str, rows: Rows) -> Array:
        """[len(rows), width] of these rows of the corpus, in the type that the column is mapped in."""
        gathered: Array = np.take(self.columns[column], self.places[rows], axis=0)
        return gathered


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where this node keeps decoded stores: ``STILLHOUSE_CACHE``, else below the user's cache directory, else, where
    there is no home to write to, below the temporary one."""
    given = environment.get("STILLHOUSE_CACHE")
    if given:
        return Path(given)
    home = Path(environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/nonexistent")) / ".cache")
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    usable = os.access(there, os.W_OK) and there != Path("/")
    return (home if usable else Path(tempfile.gettempdir()) / f"stillhouse-{os.getuid()}") / "stillhouse" / "decoded"


def decode(
    directory: Path,
    columns: Sequence[str],
    row_keys: Sequence[bytes],
    cache: Path,
    say: Callable[[str], None],
    most_bytes: int = CACHE_BYTES,
) -> Decoded:
    """Map these columns of the store in ``directory`` for the rows with these keys, decoding what no file holds yet.

    ``say`` hears how far it is. Raises ValueError, naming the row, when the store lacks one of the keys, and for a
    column that it does not have, a shard that is damaged, and a disk that is too full.
    """
    store = read_store(directory)
    check_columns(directory, store.layout, columns)
    folder = cache / f"{store_digest(directory)[:32]}-{_boot()}"
    lock = _held(folder)
    try:
        with (folder / "writing").open("ab") as writing:
            fcntl.flock(writing, fcntl.LOCK_EX)
            lacking = [name for name in (KEYS, *columns) if _size(folder / name) != _bytes(store, name)]
            if lacking:
                needed = sum(_bytes(store, name) for name in lacking)
                _make_room(cache, folder, needed, most_bytes)
                _write(directory, store, lacking, folder, say)
        os.utime(folder)
        mapped = {name: _mapped(folder / name, store, name) for name in (KEYS, *columns)}
        return Decoded(mapped, locate(mapped[KEYS], row_keys, directory), lock)
    except BaseException:
        lock.close()
        raise


def check_columns(directory: Path, layout: Layout, columns: Sequence[str]) -> None:
    """Refuse columns that the store does not have. ValueError."""
    known = set(layout.schema.names)
    lacking = [name for name in columns if name not in known]
    if lacking:
        raise ValueError(f"{directory}: the store has no column {lacking[0]}; it has {', '.join(sorted(known))}")


def _held(folder: Path) -> BinaryIO:
    """A file that keeps the folder from being removed while it is open."""
    while True:
        # Anything may be gone again before it is used: another process makes room.
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("ab")
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _is(lock, folder / "lock"):
                return lock
            lock.close()


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether the path still means this open file."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _boot() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip()[:8] if boot.exists() else "0"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _kind(store: Store, name: str) -> tuple[np.dtype[Any], int]:
    """The type and the width that a column is mapped in. Codes are mapped as the float32 that they stand for:
    float16 would round a dimension far from zero once more."""
    if name == KEYS:
        return np.dtype(np.uint8), 16
    if name == "logits":
        return np.dtype(np.float32), store.layout.outputs
    return np.dtype(np.float16 if store.layout.precision == "float16" else np.float32), store.layout.width


def _bytes(store: Store, name: str) -> int:
    dtype, width = _kind(store, name)
    return store.rows * dtype.itemsize * width


def _mapped(path: Path, store: Store, name: str) -> Array:
    dtype, width = _kind(store, name)
    # A plain array over the map: the subclass would cost more per gather than the gather.
    mapped: Array = np.asarray(np.memmap(path, dtype, "r", shape=(store.rows, width)))
    return mapped


# --- writing --------------------------------------------------------------------------------------


def _write(directory: Path, store: Store, names: Sequence[str], folder: Path, say: Callable[[str], None]) -> None:
    """Write the files of these columns, each whole or not at all."""
    needed = sum(_bytes(store, name) for name in names)
    drafts = {name: folder / f".{name}.tmp" for name in names}
    try:
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _fill(directory, store, drafts, say)
        for name, draft in drafts.items():
            if draft.stat().st_size != _bytes(store, name):
                raise ValueError(f"{directory}: column {name} has not the {store.rows} rows of store.json; verify it")
            os.replace(draft, folder / name)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(folder).free
        raise ValueError(
            f"{folder.parent}: {free:,} bytes are free, decoding {directory} takes {needed:,}; free some, "
            "or set STILLHOUSE_CACHE to a folder on another disk"
        ) from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _fill(directory: Path, store: Store, drafts: Mapping[str, Path], say: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        files = {name: stack.enter_context(draft.open("wb")) for name, draft in drafts.items()}
        for done, shard in enumerate(store.shards):
            check_footer(directory, shard)
            say(f"decodes the teacher's outputs once for this node: shard {done + 1} of {len(store.shards)}")
            for name, file in files.items():
                for values in _shard_values(directory, shard, store.layout, name):
                    file.write(np.ascontiguousarray(values).data)


def _shard_values(directory: Path, shard: ShardFile, layout: Layout, name: str) -> Iterator[Array]:
    path = directory / shard_name(shard.number)
    if name == KEYS:
        yield read_keys(path)
    elif name == "logits":
        yield read_logits(path, layout)
    else:
        yield from float_batches(directory, shard.number, layout, name)


def _make_room(cache: Path, keep: Path, needed: int, most_bytes: int) -> None:
    """Remove what earlier boots left, then the least recently used folders that nobody reads, until ``needed`` bytes
    fit the bound and the disk."""
    folders = sorted((folder for folder in cache.iterdir() if folder != keep), key=_used)
    for folder in [folder for folder in folders if not folder.name.endswith(f"-{_boot()}")]:
        _remove(folder)
    for folder in folders:
        full = sum(map(_folder_bytes, cache.iterdir())) + needed > most_bytes
        if not full and shutil.disk_usage(cache).free >= needed:
            return
        _remove(folder)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _folder_bytes(folder: Path) -> int:
    """As far as its files are still there."""
    total = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


def _remove(folder: Path) -> None:
    """Remove a folder unless somebody reads from it. It loses its name first, so that nobody finds half of it."""
    with suppress(FileNotFoundError, NotADirectoryError, BlockingIOError):
        with (folder / "lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = folder.with_name(f".gone-{os.getpid()}-{folder.name}")
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


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
