"""An epoch of MATE-KD / the passes of its models alone, and the released code's order of work / an epoch of ours.

Teacher and student are the scene's; the generator is a masked language model of MiniLM's first two layers with a new
head. All three share their word embeddings' size, and their weights' values change no time.
"""

import sys
from dataclasses import replace

import torch
from transformers import AutoTokenizer

from benchmarks import bare_mate, original_mate
from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_note, interleaved, ratios, summary, timed
from benchmarks.scene import LOGITS, Learner, Scene, packaged_model
from stages.models.loading import load
from stages.models.masked.language_model import PlacePredictor, build_masked_model
from stages.models.masked.token_ids import TokenIds, ids_for_masking
from stages.specs.axes.data import WithGenerator
from stages.specs.axes.training import OnePhase
from stages.specs.student import Cut
from stages.training.live_teachers import LiveTeachers, frozen
from stages.training.setup import Generator, TrainingSetup
from stages.training.teachers import signal_of

DATA = WithGenerator(
    mask=bare_mate.MASK_SHARE, generator_steps=bare_mate.OWN, student_steps=bare_mate.CYCLE - bare_mate.OWN
)
METHOD = LOGITS.model_copy(update={"data": DATA, "training": OnePhase(temperature=1.0, teacher_weight=0.5)})


def measure(scene: Scene) -> list[Finding]:
    """The cost of an epoch beside that of its models' passes, and how much faster it is than the released code's order
    of work. The generator goes on from epoch to epoch, which takes no more time than a new one would."""
    learner, batches = Learner(scene), scene.batches()
    teacher = frozen(load(scene.teacher), "cpu")
    tokens = token_ids()
    places, whole = PlacePredictor(masked_model()), masked_model()

    def models() -> Cost:
        learner.reset()
        return timed(
            lambda: bare_mate.models_alone(
                learner.model, teacher, places, scene.tensors, batches, scene.train.examples.pad, tokens.mask
            )
        )

    def original() -> Cost:
        learner.reset()
        own = [number % bare_mate.CYCLE < bare_mate.OWN for number in range(len(batches))]

        def epoch() -> None:
            prepared = []
            for number, chosen in enumerate(batches):
                ids, mask = bare_mate.inputs_of(scene.tensors, chosen, scene.train.examples.pad)
                given = (ids, mask, *bare_mate.masked(ids, mask, tokens.mask, number))
                prepared.append((given, scene.train.labels[chosen]))
            original_mate.epoch(learner.model, teacher, whole, prepared, own)

        return timed(epoch)

    setup = setup_of(scene, LiveTeachers([teacher], "float32", "cpu"), tokens)
    measures = {"ours": lambda: learner.ours(setup), "models": models, "original": original}
    turns = interleaved(measures, scene.scale.turns)
    return [
        Finding(
            "epoch of MATE-KD / passes of its models",
            summary(ratios(turns, "ours", "models")),
            Goal(most=1.10),
            note=cpu_note(turns, "ours", "models"),
        ),
        Finding(
            "MATE-KD, the released code's order of work / ours",
            summary(ratios(turns, "original", "ours")),
            Goal(least=1.3),
            note=cpu_note(turns, "original", "ours"),
        ),
    ]


def masked_model() -> torch.nn.Module:
    """A masked language model of the packaged model's first two layers."""
    torch.manual_seed(0)
    return build_masked_model(Cut(layers=(0, 1)), packaged_model()).model


def token_ids() -> TokenIds:
    """The packaged tokenizer's ids for masking."""
    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    return ids_for_masking(tokenizer, len(tokenizer))


def setup_of(scene: Scene, teachers: LiveTeachers, tokens: TokenIds) -> TrainingSetup:
    """A training of one epoch from stored logits with the live teacher."""
    stored = signal_of(scene.spec(LOGITS), {"outputs": scene.store}, scene.train)
    generator = Generator(PlacePredictor(masked_model()), tokens)
    return replace(scene.setup(METHOD, stored), live_teachers=teachers, generator=generator)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["mate", *sys.argv[1:]]))
