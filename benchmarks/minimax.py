"""Two epochs with some of a row's eight candidates, picked by divergence / with all eight.

The candidates of a row are other rows of the task of similar length, with the teacher's outputs for them, since the
content of the texts changes no time. Both are split into passes of similar length, as in any training.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import cpu_note, interleaved, ratios, summary
from benchmarks.scene import LOGITS, Learner, Scene
from stages.specs.axes.data import Data, Minimax, Neighbours
from stages.specs.method import Method
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
    """There are goals for keeping 2 and scoring each step, and for keeping 4 and scoring every 2 epochs. The last
    finding is the time without candidates."""
    learner = Learner(scene)
    setups = {name: setup(scene, data) for name, (data, _) in PICKED.items()}
    setups[ALL] = setup(scene, Neighbours(k=K))
    setups["none"] = setup(scene, Method().data)
    turns = interleaved({name: partial(learner.ours, one) for name, one in setups.items()}, scene.scale.turns)
    found = []
    for name, (_, most) in PICKED.items():
        goal = None if most is None else Goal(most=most)
        value = summary(ratios(turns, name, ALL))
        found.append(Finding(f"2 epochs, {name} / all 8", value, goal, note=cpu_note(turns, name, ALL)))
    found.append(Finding("2 epochs, vanilla KD / all 8", summary(ratios(turns, "none", ALL))))
    return found


def setup(scene: Scene, data: Data, epochs: int = 2, similar: bool = True) -> TrainingSetup:
    """A training, by default of two epochs, so that a method that scores every second epoch does so once. Candidates
    are of a length ``similar`` to that of their row, or of any length, as neighbours among texts of a bank are."""
    method = LOGITS.model_copy(update={"data": data})
    read = signal_of(scene.spec(LOGITS), {"outputs": scene.store}, scene.train)
    plain = scene.setup(method, read)
    train = plain.spec.train.model_copy(update={"epochs": epochs})
    whole = replace(plain, spec=plain.spec.model_copy(update={"train": train}))
    if not method.needs_candidates:
        return whole
    costs = scene.train.costs
    anywhere = np.random.default_rng(0).integers(0, len(costs), (len(costs), K))
    table = rows_of_similar_length(costs) if similar else anywhere
    return replace(whole, candidate_pool=CandidatePool(scene.train, read, table, np.zeros(table.shape, np.float32)))


def rows_of_similar_length(lengths: np.ndarray) -> np.ndarray:
    """[rows, K]: for each row the numbers of the K other rows that are nearest to it in length."""
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
