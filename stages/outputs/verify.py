"""Check a store against its ``store.json`` and against its corpus. Reads every byte."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.checksum import file_sha256
from stages.outputs.layout import Layout, ShardFile, Store, read_store, scales_name
from stages.outputs.parquet import (
    SCALED,
    Damaged,
    read_entry_logits,
    read_logits,
    read_row_keys,
    read_scales,
    read_tokens,
    state_batches,
)
from stages.outputs.quarantine import read_quarantined
from stages.specs.teacher import QUARANTINED


@dataclass(frozen=True, slots=True)
class CheckedShard:
    """A shard, and the problem that was found in it; '' for a sound one."""

    shard: ShardFile
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """All shards, and the problem of the store as a whole, '' for none: rows that no sound shard holds, that two shards
    hold, or that its corpus does not have. ``quarantined`` rows are set aside, and have to be in no shard."""

    shards: tuple[CheckedShard, ...]
    problem: str = ""
    quarantined: int = 0

    @property
    def sound(self) -> tuple[int, ...]:
        """The numbers of the sound shards."""
        return tuple(checked.shard.number for checked in self.shards if not checked.problem)

    @property
    def passed(self) -> bool:
        """Whether no problem was found in any shard or in the whole."""
        return not self.problem and len(self.sound) == len(self.shards)


def check_store(directory: Path, row_keys: Sequence[bytes], done: Callable[[CheckedShard], None]) -> StoreCheck:
    """Check checksums, schema, rows and finiteness of each shard, and the keys of all shards against the corpus's.

    ``done`` is called with each shard when it has been checked. Raises ValueError where there is no store at all.
    """
    store, found, counts = read_store(directory), [], Counter[bytes]()
    for shard in store.shards:
        checked, keys = _checked(directory, store, shard)
        found.append(checked)
        counts.update(keys)
        done(checked)
    try:
        bad = read_quarantined(directory)
    except ValueError as error:
        return StoreCheck(tuple(found), str(error))
    both = [key for key in counts if key in bad]
    problem = f"{len(both)} rows are stored, but {QUARANTINED} lists them, too" if both else ""
    return StoreCheck(tuple(found), problem or _coverage(counts, [key for key in row_keys if key not in bad]), len(bad))


def _checked(directory: Path, store: Store, shard: ShardFile) -> tuple[CheckedShard, list[bytes]]:
    try:
        problem = _bytes_differ(directory, shard)
        if problem:
            return CheckedShard(shard, problem), []  # Arrow must not parse such a shard
        problem = _content_differs(directory, store.layout, shard)
        keys = read_row_keys(directory / shard.name)
    except (Damaged, OSError, pa.ArrowException) as error:
        return CheckedShard(shard, str(error).splitlines()[0]), []
    if not problem and len(keys) != shard.rows:
        problem = f"holds {len(keys)} rows, store.json says {shard.rows}"
    return CheckedShard(shard, problem), keys if not problem else []


def _bytes_differ(directory: Path, shard: ShardFile) -> str:
    if file_sha256(directory / shard.name) != shard.sha256:
        return f"the checksum of {shard.name} is not that of store.json"
    if shard.scales_sha256 and file_sha256(directory / scales_name(shard.number)) != shard.scales_sha256:
        return f"the checksum of {scales_name(shard.number)} is not that of store.json"
    return ""


def _content_differs(directory: Path, layout: Layout, shard: ShardFile) -> str:
    path = directory / shard.name
    if not pq.read_schema(path).equals(layout.schema):
        return f"the columns of {shard.name} are not those of store.json"
    if layout.has_logits:
        logits = read_entry_logits(path, layout).values if layout.entries else read_logits(path, layout)
        if not np.isfinite(logits).all():
            return f"logits of {shard.name} are not finite"
    for state in layout.states:
        if not all(np.isfinite(values).all() for values in _values(directory, layout, shard, state.column)):
            return f"{state.column} of {shard.name} is not finite"
    return ""


def _values(directory: Path, layout: Layout, shard: ShardFile, column: str) -> Sequence[np.ndarray]:
    if layout.part == "pooled":
        batches = list(state_batches(directory, shard.number, layout, column))
        if layout.precision != SCALED:
            return batches
        scales = read_scales(directory, shard.number, [column])[column]
        return [scales.scale, scales.offset]  # codes are finite, whatever they stand for
    values, _ = read_tokens(directory / shard.name, layout, column)
    return [] if layout.precision == SCALED else [values]


def _coverage(counts: Counter[bytes], row_keys: Sequence[bytes]) -> str:
    wanted = set(row_keys)
    missing, unknown = [key for key in wanted if key not in counts], [key for key in counts if key not in wanted]
    twice = [key for key, count in counts.items() if count > 1]
    for keys, what in ((missing, "no sound shard holds"), (unknown, "are not in its corpus"), (twice, "stand twice")):
        if keys:
            return f"{len(keys)} rows {what}, among them {min(keys).hex()}"
    return ""
