"""How fast a store is read: decoded on one core, and rows gathered from the memory map.

Decoding is measured in bytes of states that come out; codes come out as float32. The states are random, in shards of
4,000 rows: 40,000 rows of 7 layers, 384 wide. Gathering takes a batch of 32 random rows of every layer from a store
that lies in the operating system's page cache.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, interleaved, summary, timed, walls
from benchmarks.scene import BATCH, Scene
from stages.cache_folder import CacheFolder
from stages.outputs.layout import Layout, read_store, write_store
from stages.outputs.node_cache import decode
from stages.outputs.parquet import float_batches, write_shard

WIDE = Layout("pooled", tuple(range(7)), 384, 12, 2, "mean", "float16")
WIDE_ROWS = 40_000
COLUMNS = [state.column for state in WIDE.states]


def measure(scene: Scene) -> list[Finding]:
    pa.set_cpu_count(1)
    findings = []
    for precision in ("float16", "float32", "int8"):
        findings.append(decoding(scene, precision))
    return [*findings, gathering(scene)]


def decoding(scene: Scene, precision: str) -> Finding:
    """Gigabytes of states a second on one core."""
    store = scene.root / f"decode-{precision}"
    write_wide(store, precision)
    about = read_store(store)
    size = about.rows * len(COLUMNS) * WIDE.width * (2 if precision == "float16" else 4)

    def read() -> None:
        for shard in about.shards:
            for column in COLUMNS:
                for _ in float_batches(store, shard.number, about.layout, column):
                    pass

    turns = interleaved({"read": lambda: timed(read)}, scene.scale.turns)
    rates = [size / seconds / 1e9 for seconds in walls(turns, "read")]
    goal = Goal(least=0.5) if precision == "float16" else None
    return Finding(f"decode, {precision}, a core", summary(rates), goal, unit="GB/s")


def gathering(scene: Scene) -> Finding:
    """Milliseconds a batch."""
    keys = write_wide(scene.root / "wide", "float16")
    found = decode(scene.root / "wide", COLUMNS, keys, CacheFolder(scene.root / "gather-cache"), print_nothing)
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, WIDE_ROWS, BATCH) for _ in range(500)]

    def gather() -> Cost:
        start = time.perf_counter()
        for rows in batches:
            for column in COLUMNS:
                found.gather(column, rows)
        return Cost((time.perf_counter() - start) / len(batches))

    turns = interleaved({"gather": gather}, scene.scale.turns)
    milliseconds = [1e3 * seconds for seconds in walls(turns, "gather")]
    return Finding(f"gather {BATCH} rows x {len(COLUMNS)} layers", summary(milliseconds), Goal(most=0.1), unit="ms")


def write_wide(directory: Path, precision: str) -> list[bytes]:
    """A store of random states in shards of nearly full size; its keys."""
    directory.mkdir()
    layout, kind = replace(WIDE, precision=precision), np.float16 if precision == "float16" else np.float32
    generator = np.random.default_rng(1)
    keys = [row.to_bytes(16, "little") for row in range(WIDE_ROWS)]
    files = []
    for number, start in enumerate(range(0, WIDE_ROWS, 4000)):
        own = keys[start : start + 4000]
        states = {name: generator.standard_normal((len(own), WIDE.width), np.float32).astype(kind) for name in COLUMNS}
        files.append(write_shard(directory, number, layout, own, np.zeros((len(own), 2), np.float32), states))
    write_store(directory, layout, "random", files)
    return keys


def print_nothing(_text: str) -> None:
    """Progress is not shown here."""


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["decode", *sys.argv[1:]]))
