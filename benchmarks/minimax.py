"""Two epochs with some of a row's eight candidates, picked by divergence / with all eight.

The candidates of a row are other rows of the task of like length, with what the teacher said of them: whose texts they
are changes no time. Both are split into passes of like length, as any training is.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import cpu_note, interleaved, ratios, summary
from benchmarks.scene import LOGITS, Learner, Scene
from stages.specs.method import Data, Method, Minimax, Neighbours
from stages.training.candidates import CandidatePool
from stages.training.setup import TrainingSetup
from stages.training.teachers import signal_of

K = 8
ALL = "all"
PICKED: Mapping[str, tuple[Data, float | None]] = {
    "4 of 8, scored each step": (Minimax(k=K, keep=4), None),
    "4 of 8, scored every 2 epochs": (Minimax(k=K, keep=4, every=2), 0.75),
    "4 of 8, scored every epoch": (Minimax(k=K, keep=4, every=1), None),
    "2 of 8, scored each step": (Minimax(k=K, keep=2), 0.75),
    "1 of 8, scored each step": (Minimax(k=K, keep=1), None),
}


def measure(scene: Scene) -> list[Finding]:
    """Goals are for keeping 2 and scoring each step, and for keeping 4 at a cadence that is named. What it takes
    without candidates stands beside."""
    learner = Learner(scene)
    lessons = {name: setup(scene, data) for name, (data, _) in PICKED.items()}
    lessons[ALL] = setup(scene, Neighbours(k=K))
    lessons["none"] = setup(scene, Method().data)
    turns = interleaved({name: partial(learner.ours, one) for name, one in lessons.items()}, scene.scale.turns)
    found = []
    for name, (_, most) in PICKED.items():
        goal = None if most is None else Goal(most=most)
        value = summary(ratios(turns, name, ALL))
        found.append(Finding(f"2 epochs, {name} / all 8", value, goal, note=cpu_note(turns, name, ALL)))
    found.append(Finding("2 epochs, vanilla KD / all 8", summary(ratios(turns, "none", ALL))))
    return found


def setup(scene: Scene, data: Data) -> TrainingSetup:
    """Two epochs, so that what is scored every other one is scored in one of them."""
    method = LOGITS.model_copy(update={"data": data})
    read = signal_of(scene.spec(LOGITS), {"outputs": scene.store}, scene.train)
    plain = scene.setup(method, read)
    train = plain.spec.train.model_copy(update={"epochs": 2})
    whole = replace(plain, spec=plain.spec.model_copy(update={"train": train}))
    if not method.needs_candidates:
        return whole
    table = alike(scene.train.tokens.lengths)
    return replace(whole, candidate_pool=CandidatePool(scene.train, read, table, np.zeros(table.shape, np.float32)))


def alike(lengths: np.ndarray) -> np.ndarray:
    """[rows, K]: for each row the K others that are next to it by length."""
    order = np.argsort(lengths, kind="stable")
    table = np.empty((len(order), K), np.int64)
    for place, row in enumerate(order):
        first = min(max(0, place - K // 2), len(order) - K - 1)
        window = [other for other in range(first, first + K + 1) if other != place][:K]
        table[row] = order[window]
    return table


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["minimax", *sys.argv[1:]]))
