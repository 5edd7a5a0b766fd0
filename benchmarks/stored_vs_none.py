"""An epoch from stored logits, and one from stored states of all layers as well / an epoch without KD."""

import sys
from functools import partial

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary, timed
from benchmarks.scene import ALL_LAYERS, LOGITS, Learner, Scene
from stages.specs.method import Method
from stages.training.signal import NoTeacher, Signal
from stages.training.teachers import signal_of


def measure(scene: Scene) -> list[Finding]:
    """The store is opened once before training. That is no part of an epoch, and is shown beside the ratio."""
    learner = Learner(scene)
    (logits_read, logits), (layers_read, layers) = (reading(scene, method) for method in (LOGITS, ALL_LAYERS))
    setups = {
        "logits": scene.setup(LOGITS, logits),
        "layers": scene.setup(ALL_LAYERS, layers),
        "none": scene.setup(Method(), NoTeacher()),
    }
    turns = interleaved({name: partial(learner.ours, setup) for name, setup in setups.items()}, scene.scale.turns)
    found = []
    for name, read, what, most in (
        ("logits", logits_read, "stored logits", 1.03),
        ("layers", layers_read, "stored states of all layers", 1.10),
    ):
        note = f"{cpu_note(turns, name, 'none')}; the store's {len(scene.train)} rows opened in {read.wall:.3f} s"
        found.append(
            Finding(f"epoch, {what} / no KD", summary(ratios(turns, name, "none")), Goal(most=most), note=note)
        )
    return found


def reading(scene: Scene, method: Method) -> tuple[Cost, Signal]:
    """The cost of opening the store, and the signal that reads it."""
    found: list[Signal] = []
    cost = timed(lambda: found.append(signal_of(scene.spec(method), {"outputs": scene.store}, scene.train)))
    return cost, found[0]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["stored_vs_none", *sys.argv[1:]]))
