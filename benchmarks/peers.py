"""An epoch of vanilla KD in other projects, which run the teacher at every step / in this one, which reads the store.

Rows, teacher, student, batch size, learning rate and loss are the same, all in one process. "As used", the other
projects pad every row to 128; "helped", they get our own batches. Our time is that of reading the store and of the
epoch; the ratio that includes the dump and the loading of its teacher is shown for 1, 3 and 10 epochs. Loading models,
scoring and checkpoints are part of no time.
"""

import contextlib
import io
import itertools
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks import original_loop
from benchmarks.findings import Finding, Goal
from benchmarks.helped import helped, listed, named
from benchmarks.pairs import Cost, Turn, cpu_note, interleaved, ratios, summary, timed
from benchmarks.scene import BATCH, Learner, Scene
from benchmarks.stored_vs_none import reading
from stages.models.loading import load
from stages.specs.axes.targets import TeacherTargets
from stages.specs.method import Method
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

Peer = Callable[[nn.Module, nn.Module, DataLoader[Any]], object]
"""Trains a student, with a teacher, on a loader's batches."""

PADDED_ROWS = 128
"""Rows that are padded to the full width. All cost the same, so a few are enough."""
EPOCHS = (1, 3, 10)
PEERS = {
    "TextBrewer as used": Goal(least=8),
    "TextBrewer helped": Goal(least=1.7),
    "original code as used": Goal(least=8),
    "original code helped": Goal(least=1.7),
    "original code helped, its teacher frozen": None,
}


def measure(scene: Scene) -> list[Finding]:
    """One finding for each peer. The ratios are of whole epochs over the same rows, so above 1 ours is faster."""
    check_textbrewer()
    learner, numbers = Learner(scene), itertools.count()
    measures = {
        "ours": lambda: ours(learner),
        "dump": lambda: dumped(scene, scene.root / f"peers-{next(numbers)}"),
        **theirs(learner),
    }
    with contextlib.redirect_stderr(io.StringIO()):  # TextBrewer's progress bars
        turns = interleaved(measures, scene.scale.turns)
    return [
        Finding(f"{name} / ours", summary(ratios(turns, name, "ours")), goal, note=note_of(turns, name))
        for name, goal in PEERS.items()
    ]


def check_textbrewer() -> None:
    """Raise ValueError where TextBrewer is not installed."""
    if find_spec("textbrewer") is None:
        raise ValueError("textbrewer: not installed; pip install -c constraints.txt -e '.[bench]'")


def ours(learner: Learner) -> Cost:
    """The cost of reading the store and of an epoch from it."""
    method = Method(targets=TeacherTargets())
    read, signal = reading(learner.scene, method)
    epoch = learner.ours(learner.scene.setup(method, signal))
    return Cost(read.wall + epoch.wall, read.cpu + epoch.cpu)


def dumped(scene: Scene, out: Path) -> Cost:
    """The cost of the whole stage ``teach`` into ``out``, which is removed afterwards."""
    out.mkdir()
    inputs = {"corpus": scene.corpus, "model": scene.teacher}
    cost = timed(lambda: teach(TeachSpec(), inputs, out, scene.on()))
    shutil.rmtree(out)
    return cost


def theirs(learner: Learner) -> dict[str, Callable[[], Cost]]:
    """A peer's name -> the cost of one epoch of it, over all rows or extrapolated to all."""
    from benchmarks import textbrewer_loop  # an extra, checked before

    scene, student = learner.scene, learner.model
    rows, pad = scene.train, scene.train.examples.pad
    few = min(PADDED_ROWS, len(rows) // BATCH * BATCH or len(rows))
    tensors, labels, share = scene.tensors[:few], rows.labels[:few], len(rows) / few
    teacher, frozen = load(scene.teacher), load(scene.teacher).requires_grad_(False)

    def epoch(peer: Peer, taught_by: nn.Module, loader: Callable[[], DataLoader[Any]]) -> Cost:
        learner.reset()
        torch.manual_seed(0)
        given = loader()
        return timed(lambda: peer(student, taught_by, given))

    wide = textbrewer_loop.padded(tensors, labels, pad)
    plain = original_loop.padded(tensors, labels, pad)
    brewer, original = textbrewer_loop.train, original_loop.train
    return {
        "TextBrewer as used": lambda: epoch(brewer, teacher, lambda: wide).times(share),
        "TextBrewer helped": lambda: epoch(brewer, teacher, lambda: helped(rows, named)),
        "original code as used": lambda: epoch(original, teacher, lambda: plain).times(share),
        "original code helped": lambda: epoch(original, teacher, lambda: helped(rows, listed)),
        "original code helped, its teacher frozen": lambda: epoch(original, frozen, lambda: helped(rows, listed)),
    }


def note_of(turns: Sequence[Turn], name: str) -> str:
    """The ratio by processor time, and the ratios that count the whole dump as ours."""
    found = []
    for epochs in EPOCHS:
        values = [epochs * turn[name].wall / (turn["dump"].wall + epochs * turn["ours"].wall) for turn in turns]
        value = summary(values)
        found.append(f"{epochs}: {value.median:.2f} ({value.low:.2f} .. {value.high:.2f})")
    return f"{cpu_note(turns, name, 'ours')}; with the dump, by epochs {', '.join(found)}"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["peers", *sys.argv[1:]]))
