"""How much of a store a student reads that follows 2 of its 25 layers.

Bytes that a separate process reads (``rchar`` of /proc/self/io) while training opens its teacher's outputs, divided by
the bytes of the shards. Nothing was decoded before, except for the last line. The states are random: 25 layers, 1,024
wide, in float16. What is mapped from decoded files is not read and does not count; nor does code, which the process has
loaded by reading a small store first.
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import summary
from benchmarks.scene import STUDENT, Scene
from stages.corpus.batches import Ragged
from stages.corpus.examples.token_rows import TokenRows
from stages.corpus.rowset import Rowset
from stages.outputs.layout import Layout, read_store, write_store
from stages.outputs.parquet import write_shard
from stages.outputs.sizes import rows_a_shard
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import TeacherTargets
from stages.specs.layers import Pick, Structure
from stages.specs.method import Method
from stages.specs.student import DistilSpec, Train
from stages.training.teachers import signal_of

LAYOUT = Layout("pooled", tuple(range(25)), 1024, 16, 2, "mean", "float16")
ROWS = 8_000
SMALL, SMALL_ROWS = "columns-read-small", 20
ROW_BYTES = 16 + 8 + 25 * 1024 * 2
TWO = Pick(pairs=((1, 12), (2, 24)))
ALL = Pick(pairs=tuple((1, layer) for layer in range(25)))


@dataclass(frozen=True)
class Reading:
    """Input of the measuring process: a student's spec, its store, the keys of its rows, and a small store, read first,
    that holds the first ``small_rows`` of them. Columns are decoded to ``cache``."""

    spec: DistilSpec
    store: Path
    keys: list[bytes]
    small: Path
    small_rows: int
    cache: Path


def measure(scene: Scene) -> list[Finding]:
    """Each is measured once: nothing here depends on time."""
    store = scene.root / "columns-read"
    keys = write_deep(store, ROWS if scene.scale.turns >= 7 else ROWS // 8)
    write_deep(scene.root / SMALL, SMALL_ROWS)
    whole = sum(shard.bytes for shard in read_store(store).shards)
    none = read(store, keys, NoLayers(), "none")
    two = read(store, keys, TWO, "two")
    again = read(store, keys, TWO, "two")
    every = read(store, keys, ALL, "all")
    of = f"of {whole:,} bytes of shards"
    return [
        Finding("read / shards: logits alone", summary([none / whole]), note=f"{none:,} {of}", once=True),
        Finding(
            "read / shards: logits and 2 of 25 layers",
            summary([two / whole]),
            Goal(most=0.085),
            note=f"{two:,} {of}; 2/25 is 0.080",
            once=True,
        ),
        Finding("read / shards: logits and all layers", summary([every / whole]), note=f"{every:,} {of}", once=True),
        Finding(
            "read for 2 layers / for 25, without what logits alone take",
            summary([(two - none) / (every - none)]),
            Goal(most=0.085),
            once=True,
        ),
        Finding("read / shards: the 2 layers, decoded before", summary([again / whole]), note=f"{again:,}", once=True),
    ]


def write_deep(directory: Path, rows: int) -> list[bytes]:
    """A store of random states; its keys."""
    directory.mkdir()
    generator = np.random.default_rng(3)
    keys = [row.to_bytes(16, "little") for row in range(rows)]
    size, files = rows_a_shard(ROW_BYTES), []
    noise = generator.standard_normal((size + len(LAYOUT.layers), LAYOUT.width), np.float32).astype(np.float16)
    for number, start in enumerate(range(0, rows, size)):
        own = keys[start : start + size]
        # Slices of one block of noise: fresh numbers would take longer than writing them.
        states = {state.column: noise[state.layer : state.layer + len(own)] for state in LAYOUT.states}
        logits = generator.standard_normal((len(own), 2), np.float32)
        files.append(write_shard(directory, number, LAYOUT, own, logits, states))
    write_store(directory, LAYOUT, "random", files)
    return keys


def read(store: Path, keys: list[bytes], structure: Structure, cache: str) -> int:
    """Bytes that training reads for a method of this structure that uses logits, too. What it decodes stays in the
    folder ``cache``."""
    method = Method(targets=TeacherTargets(), structure=structure)
    spec = DistilSpec(start=STUDENT, method=method, train=Train(epochs=1))
    reading = Reading(spec, store, keys, store.with_name(SMALL), SMALL_ROWS, store.with_name(f"cache-{cache}"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(bytes_to_open, reading).result()


def bytes_to_open(reading: Reading) -> int:
    """The bytes that this process reads to open the teacher's outputs."""
    os.environ["STILLHOUSE_CACHE"] = str(reading.cache)
    open_outputs(reading.spec, reading.small, reading.keys[: reading.small_rows])
    before = bytes_read()
    open_outputs(reading.spec, reading.store, reading.keys)
    return bytes_read() - before


def open_outputs(spec: DistilSpec, store: Path, keys: list[bytes]) -> None:
    nothing = Ragged(np.empty(0, np.int32), np.zeros(len(keys) + 1, np.int64))
    labels, labelled = torch.zeros(len(keys), dtype=torch.int64), np.zeros(len(keys), np.bool_)
    rows = Rowset(TokenRows(nothing, None, 0), labels, labelled, keys, np.arange(len(keys)))
    signal_of(spec, {"outputs": store}, rows)


def bytes_read() -> int:
    """All bytes that this process has read so far."""
    lines = Path("/proc/self/io").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["columns_read", *sys.argv[1:]]))
