"""An epoch without KD in bfloat16, with frozen word embeddings, and with both / the same epoch in float32."""

import sys
from dataclasses import replace
from functools import partial

from benchmarks.findings import Finding
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary
from benchmarks.scene import Learner, Scene
from stages.specs.method import Method
from stages.training.setup import TrainingSetup
from stages.training.signal import NoTeacher

OPTIONS = {
    "bfloat16": {"precision": "bfloat16"},
    "frozen embeddings": {"freeze": ("embeddings",)},
    "bfloat16, frozen embeddings": {"precision": "bfloat16", "freeze": ("embeddings",)},
}


def measure(scene: Scene) -> list[Finding]:
    """A ratio for each option. A student of its own for each, as a frozen table stays frozen."""
    plain = scene.setup(Method(), NoTeacher())

    def epoch(setup: TrainingSetup) -> partial[Cost]:
        return partial(Learner(scene).ours, setup)

    def with_options(changes: dict[str, object]) -> TrainingSetup:
        train = plain.spec.train.model_copy(update=changes)
        return replace(plain, spec=plain.spec.model_copy(update={"train": train}))

    measures = {"float32": epoch(plain)} | {name: epoch(with_options(changes)) for name, changes in OPTIONS.items()}
    turns = interleaved(measures, scene.scale.turns)
    return [
        Finding(
            f"epoch, {name} / float32", summary(ratios(turns, name, "float32")), note=cpu_note(turns, name, "float32")
        )
        for name in OPTIONS
    ]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["train_options", *sys.argv[1:]]))
