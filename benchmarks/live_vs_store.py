"""An epoch with a live teacher / one from the store, beside what the two models' own times allow.

With s the student's forward, backward and step and t the teacher's forward over the same batches, each
by its frozen script, a live epoch can be no cheaper than (s + t) / s epochs from a store.
"""

import sys

from benchmarks import bare_forward
from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary, timed
from benchmarks.scene import Learner, Scene
from stages.models import load
from stages.signal import Live
from stages.specs import Method, Taught
from stages.student import signal_of


def measure(scene: Scene) -> list[Finding]:
    """Seen, allowed, and seen / allowed, which has the goal."""
    learner, method, batches = Learner(scene), Method(targets=Taught()), scene.batches()
    teacher = load(scene.teacher).eval()
    live = scene.lesson(method, Live(teacher))
    stored = scene.lesson(method, signal_of(scene.spec(method), {"outputs": scene.store}, scene.train))

    def forward() -> Cost:
        return timed(lambda: bare_forward.forward(teacher, scene.tensors, batches, scene.train.pad, hidden=False))

    turns = interleaved(
        {
            "live": lambda: learner.ours(live),
            "stored": lambda: learner.ours(stored),
            "student": learner.bare,
            "teacher": forward,
        },
        scene.scale.turns,
    )
    seen = ratios(turns, "live", "stored")
    allowed = [1 + ratio for ratio in ratios(turns, "teacher", "student")]
    quotient = summary([one / other for one, other in zip(seen, allowed, strict=True)])
    models = cpu_note(turns, "teacher", "student")
    cpu = [turn["live"].cpu / turn["stored"].cpu / (1 + turn["teacher"].cpu / turn["student"].cpu) for turn in turns]
    return [
        Finding("epoch, live teacher / stored", summary(seen), note=cpu_note(turns, "live", "stored")),
        Finding("1 + t / s, which the models allow", summary(allowed), note=f"t / s: {models}"),
        Finding("live teacher, seen / allowed", quotient, Goal(0.95, 1.05), note=f"cpu {summary(cpu).median:.3f}"),
    ]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["live_vs_store", *sys.argv[1:]]))
