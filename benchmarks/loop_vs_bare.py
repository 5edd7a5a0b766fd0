"""Our epoch without KD / an epoch of the bare loop, on the same batches."""

import sys

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import cpu_note, interleaved, ratios, summary, walls
from benchmarks.scene import Learner, Scene
from stages.specs.method import Method
from stages.training.signal import NoTeacher


def measure(scene: Scene) -> list[Finding]:
    """The ratio, with the mean losses of both, which are nearly equal for equal work."""
    learner = Learner(scene)
    setup = scene.setup(Method(), NoTeacher())
    turns = interleaved({"ours": lambda: learner.ours(setup), "bare": learner.bare}, scene.scale.turns)
    note = (
        f"{cpu_note(turns, 'ours', 'bare')}; bare {summary(walls(turns, 'bare')).median:.2f} s; "
        f"loss {learner.losses['ours']:.4f}, bare {learner.losses['bare']:.4f}"
    )
    return [Finding("epoch, no KD / bare loop", summary(ratios(turns, "ours", "bare")), Goal(most=1.02), note=note)]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["loop_vs_bare", *sys.argv[1:]]))
