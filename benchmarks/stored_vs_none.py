"""An epoch that learns from stored logits / one without KD."""

import sys

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary, timed
from benchmarks.scene import Learner, Scene
from stages.signal import NoTeacher, Signal
from stages.specs import Method, Taught
from stages.student import signal_of


def measure(scene: Scene) -> list[Finding]:
    """The store is read once before training, which is no part of an epoch; it stands beside the ratio."""
    learner = Learner(scene)
    method = Method(targets=Taught())
    read, signal = reading(scene, method)
    stored, none = scene.lesson(method, signal), scene.lesson(Method(), NoTeacher())
    turns = interleaved({"stored": lambda: learner.ours(stored), "none": lambda: learner.ours(none)}, scene.scale.turns)
    note = f"{cpu_note(turns, 'stored', 'none')}; the store's {len(scene.train)} rows read in {read.wall:.3f} s"
    value = summary(ratios(turns, "stored", "none"))
    return [Finding("epoch, stored logits / no KD", value, Goal(most=1.03), note=note)]


def reading(scene: Scene, method: Method) -> tuple[Cost, Signal]:
    """The signal from the store, and what it cost to read."""
    found: list[Signal] = []
    cost = timed(lambda: found.append(signal_of(scene.spec(method), {"outputs": scene.store}, scene.train)))
    return cost, found[0]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["stored_vs_none", *sys.argv[1:]]))
