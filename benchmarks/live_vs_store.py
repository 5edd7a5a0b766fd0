"""An epoch with a live teacher / an epoch from the store, for logits and for the states of all layers, compared with
the ratio that is expected from the times of the two models alone.

Where s is the time of the student's epoch and t that of the teacher's forward over the same batches, the expected ratio
is (s + t) / s. For logits, frozen scripts measure both. There is no frozen script that matches layers, so s is the
stored epoch itself there.
"""

import sys
from collections.abc import Sequence

from benchmarks import bare_forward
from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, Turn, cpu_note, interleaved, ratios, summary, timed
from benchmarks.scene import ALL_LAYERS, LOGITS, Learner, Scene
from stages.models.loading import load
from stages.specs.method import Method
from stages.training.signal import LiveSignal
from stages.training.teachers import signal_of


def measure(scene: Scene) -> list[Finding]:
    """The measured ratio, the expected ratio, and measured / expected, which has the goal: for logits, then all
    layers."""
    logits = turns_of(scene, LOGITS)
    layers = turns_of(scene, ALL_LAYERS)
    return [*findings(logits, "logits", "student"), *findings(layers, "all layers", "stored")]


def turns_of(scene: Scene, method: Method) -> list[Turn]:
    learner, batches = Learner(scene), scene.batches()
    teacher = load(scene.teacher).eval()
    live = scene.setup(method, LiveSignal(teacher))
    stored = scene.setup(method, signal_of(scene.spec(method), {"outputs": scene.store}, scene.train))

    def forward() -> Cost:
        hidden = method.needs_layers
        return timed(
            lambda: bare_forward.forward(teacher, scene.tensors, batches, scene.train.examples.pad, hidden=hidden)
        )

    measures = {"live": lambda: learner.ours(live), "stored": lambda: learner.ours(stored), "teacher": forward}
    if not method.needs_layers:
        measures["student"] = learner.bare
    return interleaved(measures, scene.scale.turns)


def findings(turns: Sequence[Turn], what: str, student: str) -> list[Finding]:
    measured = ratios(turns, "live", "stored")
    expected = [1 + ratio for ratio in ratios(turns, "teacher", student)]
    quotient = summary([one / other for one, other in zip(measured, expected, strict=True)])
    models = cpu_note(turns, "teacher", student)
    cpu = [turn["live"].cpu / turn["stored"].cpu / (1 + turn["teacher"].cpu / turn[student].cpu) for turn in turns]
    return [
        Finding(f"epoch, live teacher / stored: {what}", summary(measured), note=cpu_note(turns, "live", "stored")),
        Finding(f"1 + t / s, the expected ratio: {what}", summary(expected), note=f"t / s: {models}"),
        Finding(
            f"live teacher, measured / expected: {what}",
            quotient,
            Goal(0.95, 1.05),
            note=f"cpu {summary(cpu).median:.3f}",
        ),
    ]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["live_vs_store", *sys.argv[1:]]))
