"""An epoch of vanilla KD by others, who run the teacher at every step / by us, who read its store.

The same rows, teacher, student, batch size, learning rate and loss, in one process. As they are used, others pad
every row to 128; helped, they take our own batches. Ours is the store's reading and the epoch; what the dump costs,
with the teacher's loading, is told beside it for 1, 3 and 10 epochs. Loading the models, scoring and checkpoints are
no part of anybody's time.
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
from stages.specs.method import Method, TeacherTargets
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

Peer = Callable[[nn.Module, nn.Module, DataLoader[Any]], object]
"""Trains a student, with a teacher, on a loader's batches."""

PADDED_ROWS = 128
"""Rows that are padded to the full width: each costs the same, so that few will do."""
EPOCHS = (1, 3, 10)
PEERS = {
    "TextBrewer as used": Goal(least=8),
    "TextBrewer helped": Goal(least=1.7),
    "original code as used": Goal(least=8),
    "original code helped": Goal(least=1.7),
    "original code helped, its teacher frozen": None,
}


def measure(scene: Scene) -> list[Finding]:
    """A line for each peer. The ratios are of whole epochs over the same rows: above 1 ours is the faster."""
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
    """ValueError where TextBrewer is not installed."""
    if find_spec("textbrewer") is None:
        raise ValueError("textbrewer: not installed; pip install -c constraints.txt -e '.[bench]'")


def ours(learner: Learner) -> Cost:
    """The store's reading and an epoch from it."""
    method = Method(targets=TeacherTargets())
    read, signal = reading(learner.scene, method)
    epoch = learner.ours(learner.scene.setup(method, signal))
    return Cost(read.wall + epoch.wall, read.cpu + epoch.cpu)


def dumped(scene: Scene, out: Path) -> Cost:
    """The whole stage ``teach`` into ``out``, which is removed again."""
    out.mkdir()
    inputs = {"corpus": scene.corpus, "model": scene.teacher}
    cost = timed(lambda: teach(TeachSpec(), inputs, out, scene.on()))
    shutil.rmtree(out)
    return cost


def theirs(learner: Learner) -> dict[str, Callable[[], Cost]]:
    """A peer's name -> an epoch of it, over all rows or as much as that."""
    from benchmarks import textbrewer_loop  # an extra that is asked for first

    scene, student = learner.scene, learner.model
    rows, pad = scene.train, scene.train.pad
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
    """The processor's word, and the ratio with the whole dump among our costs."""
    found = []
    for epochs in EPOCHS:
        values = [epochs * turn[name].wall / (turn["dump"].wall + epochs * turn["ours"].wall) for turn in turns]
        value = summary(values)
        found.append(f"{epochs}: {value.median:.2f} ({value.low:.2f} .. {value.high:.2f})")
    return f"{cpu_note(turns, name, 'ours')}; with the dump, by epochs {', '.join(found)}"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["peers", *sys.argv[1:]]))
