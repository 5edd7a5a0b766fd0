"""What the stage ``teach`` sends to its workers, and what they return."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stages.corpus.batches import Rows
from stages.corpus.reader import SCRATCH, Meta
from stages.outputs.layout import Layout, ShardFile
from stages.outputs.quarantine import WhatIsBad
from stages.outputs.sizes import Extent
from stages.specs.teacher import TeachSpec


@dataclass(frozen=True, slots=True)
class TeachJob:
    """What a worker needs to know to write shards."""

    spec: TeachSpec
    model: Path
    corpus: Path
    out: Path
    layout: Layout


@dataclass(frozen=True, slots=True)
class PriorShard:
    """A shard of an earlier store."""

    directory: Path
    number: int
    layout: Layout


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard to be written. ``rows`` are numbers of distinct rows, counted through the splits in the spec's order.
    They are computed, or copied from a ``source`` that holds them all."""

    number: int
    rows: Rows
    source: PriorShard | None = None


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """A shard that was written, how often the token budget was halved for lack of memory meanwhile, how many of its
    rows were copied from an earlier store, and which rows are ``bad``, so that they are not in it. ``file`` is None
    where all are."""

    file: ShardFile | None
    halvings: int = 0
    copied: int = 0
    bad: WhatIsBad = field(default_factory=dict)


def bad_rows_path(out: Path, number: int) -> Path:
    """The file that keeps the bad rows of shard ``number`` until the stage ends."""
    return out / SCRATCH / f"bad-rows-{number:05d}.parquet"


def sizes_of_rows(layout: Layout, meta: Meta, row_lengths: Rows) -> Rows:
    """Bytes of each row before compression, [rows], from its number of tokens, which counts where positions are
    kept."""

    def size(length: int) -> int:
        # A row has at most as many entries as tokens, but for those that were cut off with their tokens.
        outputs = layout.outputs * (length if layout.entries else 1)
        extent = Extent(len(layout.layers), layout.width, outputs, layout.heads, length)
        return extent.row_bytes(layout.part, layout.precision, layout.pooling)

    by_length = np.array([size(length) for length in range(meta.max_length + 1)], np.int64)
    return by_length[row_lengths]
