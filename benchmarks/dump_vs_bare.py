"""Rows a second of the teach stage, writing included / rows a second of the bare forward.

It is compared with the forward on the same batches of similar length, and with the forward as it is commonly run: rows
in their order, 32 at a time, padded to 128.
"""

import itertools
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks import bare_forward, bare_loop
from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary, timed, walls
from benchmarks.scene import BATCH, Scene, Watch
from cluster.inline import InlineOn, InlineWorker
from stages.corpus.batches import parts, sorted_batches
from stages.corpus.rowset import distinct
from stages.models.adapters.text import tokens_per_pass
from stages.models.loading import load
from stages.outputs.sizes import SHARD_ROWS
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

WIDTH = 128
PADDED_ROWS = 128
"""Rows that are padded to ``WIDTH``. All cost the same, so a few are enough."""


class OpenedOn(InlineOn):
    """Runs items in this process. ``cost`` is theirs, from when their worker has opened."""

    cost = Cost(math.nan)

    def map(
        self,
        open_worker: Callable[[Config, InlineWorker], Callable[[Item], Result]],
        config: Config,
        items: Sequence[Item],
    ) -> Iterator[tuple[int, Result]]:
        do = open_worker(config, self._worker())
        results: list[Result] = []
        self.cost = timed(lambda: results.extend(map(do, items)))
        return iter(enumerate(results))


def measure(scene: Scene) -> list[Finding]:
    """Both ratios are of rows a second, so above 1 the stage is faster. The stage loads its model within its first
    item, the bare forward before it is timed."""
    rows, pad = distinct([scene.train]), scene.train.examples.pad
    tensors = bare_loop.split_rows(rows.examples.tokens.values, rows.examples.tokens.offsets)
    lengths = rows.costs
    same = [
        start + batch
        for start, end in parts(len(rows), SHARD_ROWS)
        for batch in sorted_batches(lengths[start:end], tokens_per_pass("cpu", scene.scale.threads))
    ]
    plain = [np.arange(*part) for part in parts(min(PADDED_ROWS, len(rows)), BATCH)]
    share = len(rows) / sum(map(len, plain))
    model = load(scene.teacher)
    numbers = itertools.count()

    def dump() -> Cost:
        return dumped(scene, scene.root / f"dump-{next(numbers)}")

    turns = interleaved(
        {
            "dump": dump,
            "bare": lambda: timed(lambda: bare_forward.forward(model, tensors, same, pad)),
            "padded": lambda: timed(lambda: bare_forward.forward(model, tensors, plain, pad, width=WIDTH)).times(share),
        },
        scene.scale.turns,
    )
    rates = {name: len(rows) / summary(walls(turns, name)).median for name in ("dump", "bare", "padded")}
    return [
        Finding(
            "dump rows/s / bare forward's",
            summary(ratios(turns, "bare", "dump")),
            Goal(least=0.95),
            note=f"{cpu_note(turns, 'bare', 'dump')}; rows/s: {rates['dump']:.0f}, bare {rates['bare']:.0f}",
        ),
        Finding(
            f"dump rows/s / bare forward's padded to {WIDTH}",
            summary(ratios(turns, "padded", "dump")),
            Goal(least=3),
            note=f"rows/s: padded {rates['padded']:.0f}",
        ),
    ]


def dumped(scene: Scene, out: Path) -> Cost:
    """The cost of one run of the stage into ``out``, which is removed afterwards."""
    out.mkdir()
    on = OpenedOn(scene.resources, Watch())
    teach(TeachSpec(), {"corpus": scene.corpus, "model": scene.teacher}, out, on)
    shutil.rmtree(out)
    return on.cost


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["dump_vs_bare", *sys.argv[1:]]))
