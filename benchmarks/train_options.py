"""An epoch without KD in bfloat16, with frozen word embeddings, without padding, and with several of these / the same
epoch in float32 on padded batches; and an epoch with a candidate a row without padding / the same with it. A processor
without instructions for bfloat16 imitates the type, so that the lines with it are left out there."""

import sys
from dataclasses import replace
from functools import partial

from benchmarks import minimax
from benchmarks.findings import Finding
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary
from benchmarks.scene import Learner, Scene
from pipeline.plan.advice import bfloat16_instructions
from stages.specs.axes.data import Neighbours
from stages.specs.method import Method
from stages.training.setup import TrainingSetup
from stages.training.signal import NoTeacher

DRAWN = "one candidate a row"
OPTIONS: dict[str, dict[str, object]] = {
    "unpadded": {"unpadded": True},
    "frozen embeddings": {"freeze": ("embeddings",)},
    "unpadded, frozen embeddings": {"unpadded": True, "freeze": ("embeddings",)},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, frozen embeddings": {"precision": "bfloat16", "freeze": ("embeddings",)},
    "unpadded, bfloat16": {"unpadded": True, "precision": "bfloat16"},
}


def measure(scene: Scene) -> list[Finding]:
    """A ratio for each option. A student of its own for each, as a frozen table stays frozen."""
    plain = scene.setup(Method(), NoTeacher())

    def epoch(setup: TrainingSetup) -> partial[Cost]:
        return partial(Learner(scene).ours, setup)

    def with_options(setup: TrainingSetup, changes: dict[str, object]) -> TrainingSetup:
        train = setup.spec.train.model_copy(update=changes)
        return replace(setup, spec=setup.spec.model_copy(update={"train": train}))

    fast = bool(bfloat16_instructions())
    options = {name: changes for name, changes in OPTIONS.items() if fast or "precision" not in changes}
    measures = {"float32": epoch(plain)} | {
        name: epoch(with_options(plain, changes)) for name, changes in options.items()
    }
    drawn = minimax.setup(scene, Neighbours(k=minimax.K, draw=1), epochs=1, similar=False)
    drawn_unpadded = f"{DRAWN}, unpadded"
    measures |= {DRAWN: epoch(drawn), drawn_unpadded: epoch(with_options(drawn, OPTIONS["unpadded"]))}
    turns = interleaved(measures, scene.scale.turns)
    found = [
        Finding(
            f"epoch, {name} / float32", summary(ratios(turns, name, "float32")), note=cpu_note(turns, name, "float32")
        )
        for name in options
    ]
    value, note = summary(ratios(turns, drawn_unpadded, DRAWN)), cpu_note(turns, drawn_unpadded, DRAWN)
    return [*found, Finding(f"epoch, {drawn_unpadded} / padded", value, note=note)]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["train_options", *sys.argv[1:]]))
