"""When a dump begins to save time: seconds of the dump and of reading the store / seconds that an epoch from it saves.

The value is the number of epochs, of one student or of several together, after which both ways have cost the same; with
more epochs the store is cheaper. The dump is the whole stage, and includes loading the teacher. Loading a live teacher
is not counted, although each student would do it.
"""

import itertools
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.findings import Finding
from benchmarks.pairs import Cost, Turn, interleaved, summary, timed, walls
from benchmarks.scene import STUDENT, Learner, Scene
from benchmarks.stored_vs_none import reading
from stages.models.loading import build, load
from stages.specs.axes.targets import TeacherTargets
from stages.specs.method import Method
from stages.specs.student import Cut, Pretrained, Start
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.signal import LiveSignal

PAIRS: dict[str, tuple[Start, Start]] = {
    "6 layers teach 2": (Pretrained(), STUDENT),
    "6 layers teach 6": (Pretrained(), Pretrained()),
    "1 layer teaches 2": (Cut(layers=(0,)), STUDENT),
}
"""Teacher and student, both made from the packaged MiniLM, since the values of weights change no time."""
EPOCHS = (1, 3, 10)


def measure(scene: Scene) -> list[Finding]:
    """One finding for each pair. It is infinite where an epoch from the store saves nothing."""
    return [finding(scene, number, name) for number, name in enumerate(PAIRS)]


def finding(scene: Scene, number: int, name: str) -> Finding:
    pair = make_pair(scene, scene.root / f"pair-{number}", *PAIRS[name])
    turns = turns_of(pair)
    value = summary([break_even(turn) for turn in turns])
    return Finding(f"break-even, {name}", value, unit="epochs", note=note_of(turns))


def make_pair(scene: Scene, root: Path, teacher: Start, student: Start) -> Scene:
    """Another scene with the same corpus, for this teacher and student."""
    pair = Scene(root, scene.scale)
    root.mkdir()
    pair.corpus.symlink_to(scene.corpus, target_is_directory=True)
    torch.manual_seed(0)
    build(teacher, scene.teacher, scene.meta.task).save_pretrained(pair.teacher)
    build(student, scene.teacher, scene.meta.task).save_pretrained(pair.student)
    dumped(pair, pair.store)
    return pair


def dumped(pair: Scene, out: Path) -> Cost:
    """The cost of the whole stage ``teach``, into ``out``."""
    out.mkdir()
    inputs = {"corpus": pair.corpus, "model": pair.teacher}
    return timed(lambda: teach(TeachSpec(), inputs, out, pair.on()))


def turns_of(pair: Scene) -> list[Turn]:
    learner, method, numbers = Learner(pair), Method(targets=TeacherTargets()), itertools.count()
    _, signal = reading(pair, method)
    live, stored = (pair.setup(method, taught) for taught in (LiveSignal(load(pair.teacher).eval()), signal))

    def dump() -> Cost:
        out = pair.root / f"dump-{next(numbers)}"
        cost = dumped(pair, out)
        shutil.rmtree(out)
        return cost

    return interleaved(
        {
            "dump": dump,
            "read": lambda: reading(pair, method)[0],
            "live": lambda: learner.ours(live),
            "stored": lambda: learner.ours(stored),
        },
        pair.scale.turns,
    )


def break_even(turn: Turn) -> float:
    """Epochs after which the dump, and the store's reading by one student, have cost less than a live teacher."""
    saved = turn["live"].wall - turn["stored"].wall
    return (turn["dump"].wall + turn["read"].wall) / saved if saved > 0 else math.inf


def note_of(turns: Sequence[Turn]) -> str:
    """The seconds behind the value, and what the store saves or loses after each of ``EPOCHS``."""
    costs = {name: summary(walls(turns, name)).median for name in ("dump", "read", "live", "stored")}
    outcomes = [outcome(costs["dump"] + costs["read"] + n * costs["stored"], n * costs["live"], n) for n in EPOCHS]
    seconds = f"dump {costs['dump']:.2f} s, read {costs['read']:.3f} s"
    return f"{seconds}; an epoch live {costs['live']:.2f} s, stored {costs['stored']:.2f} s; {', '.join(outcomes)}"


def outcome(stored: float, live: float, epochs: int) -> str:
    """What the store saves or loses, as text, from the seconds with it and with a live teacher."""
    what = "saves" if stored < live else "LOSES"
    return f"{epochs} epoch{'s' if epochs > 1 else ''}: the store {what} {abs(live - stored) / live:.0%}"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["break_even", *sys.argv[1:]]))
