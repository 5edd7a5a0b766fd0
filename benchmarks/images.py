"""Images: an epoch of ResNet-8 from the stored logits of augmented views / an epoch without KD, and one with a live
ResNet-20 / from the store, compared with the ratio that is expected from the times of the two models alone.

The images are those of CIFAR-10 where the data folder has them (``STILLHOUSE_DATA``, or ``../shared/data``), else
random ones. Each has four views, of which an epoch reads one, so that they are cropped and flipped as in a training.
"""

import io
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_note, cpu_seconds, interleaved, ratios, summary, timed
from benchmarks.scene import LOGITS, Scene, Watch
from cluster.inline import InlineWorker
from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta
from stages.corpus.rowset import Rowset, read_rowset
from stages.models.by_task import build
from stages.models.forward import forward
from stages.specs.axes.augmentation import Augmentation
from stages.specs.axes.optimizers import Sgd
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.method import Method
from stages.specs.seeds import seed_of
from stages.specs.student import DistilSpec, Network, Train
from stages.specs.tasks import Task
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.loop import fit
from stages.training.setup import TrainingSetup
from stages.training.signal import LiveSignal, NoTeacher, Signal
from stages.training.teachers import signal_of
from stages.training.tensorboard import curve_writer

TEACHER, STUDENT = Network(family="resnet", depth=20), Network(family="resnet", depth=8)
VIEWS = 4
BATCH = 128
IMAGES = 4
"""Images for each row that a benchmark on texts has."""
DEV_ROWS = 64
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TASK = Task(name="cifar10", image="image", labels=CLASSES, dev=(), test=())


@dataclass(frozen=True)
class ImageScene:
    """The rows, the teacher and its store below ``root``. ``place`` says how stages run."""

    root: Path
    place: Scene

    @cached_property
    def train(self) -> Rowset:
        return read_rowset(self.root / "corpus", "train")

    @cached_property
    def dev(self) -> Rowset:
        return read_rowset(self.root / "corpus", "validation")

    @cached_property
    def start(self) -> dict[str, torch.Tensor]:
        """The weights from which each epoch of the student starts."""
        torch.manual_seed(0)
        return build(STUDENT, None, TASK, self.root / "corpus").state_dict()

    def spec(self, method: Method) -> DistilSpec:
        """A student of ``method``, trained for one epoch."""
        train = Train(epochs=1, batch_size=BATCH, select="dev", optimizer=Sgd(), learning_rate=0.1)
        return DistilSpec(start=STUDENT, method=method, train=train)

    def setup(self, method: Method, signal: Signal) -> TrainingSetup:
        curves = curve_writer(self.root / "curves", time.time)
        none = self.root / "none.pt"
        return TrainingSetup(
            self.spec(method),
            TASK,
            self.train,
            self.dev,
            signal,
            none,
            math.inf,
            teacher_widths={},
            write_curves=curves,
        )

    def stored(self) -> Signal:
        """The teacher's logits of all views."""
        return signal_of(self.spec(LOGITS), {"outputs": self.root / "store"}, self.train)

    def epoch(self, setup: TrainingSetup) -> Cost:
        """The cost of an epoch of the project's loop, up to the end of its last step."""
        student = build(STUDENT, None, TASK, self.root / "corpus")
        student.load_state_dict(self.start)
        watch = Watch()
        wall, cpu = time.perf_counter(), cpu_seconds()
        fit(student, setup, InlineWorker(self.place.scale.threads, watch))
        return Cost(watch.wall - wall, watch.cpu - cpu)

    def passes(self, teacher: nn.Module) -> Cost:
        """The cost of the teacher's forward passes over the batches of that epoch, which are formed before."""
        batches = [self.train.batch(rows, "cpu").inputs for rows in self.train.batches(BATCH, seed_of(0, 0, 0), 0)]

        def run() -> None:
            with torch.no_grad():
                for inputs in batches:
                    forward(teacher, inputs)

        return timed(run)


def measure(scene: Scene) -> list[Finding]:
    """Stored / no KD; live / stored, the ratio that the two models alone allow, and measured / expected."""
    images = make(scene.root / "images", scene)
    torch.manual_seed(0)
    teacher = build(TEACHER, None, TASK, images.root / "corpus").eval()
    none, stored = images.setup(Method(), NoTeacher()), images.setup(LOGITS, images.stored())
    live = images.setup(LOGITS, LiveSignal(teacher))
    turns = interleaved(
        {
            "none": lambda: images.epoch(none),
            "stored": lambda: images.epoch(stored),
            "live": lambda: images.epoch(live),
            "teacher": lambda: images.passes(teacher),
        },
        scene.scale.turns,
    )
    measured = ratios(turns, "live", "stored")
    expected = [1 + ratio for ratio in ratios(turns, "teacher", "stored")]
    about = f"{images.train.epoch_rows:,} images; {cpu_note(turns, 'stored', 'none')}"
    costs = summary(ratios(turns, "stored", "none"))
    return [
        Finding(
            "ResNet-8, epoch, stored views / no KD",
            costs,
            Goal(most=1.03),
            note=about,
        ),
        Finding("... live ResNet-20 / stored", summary(measured), note=cpu_note(turns, "live", "stored")),
        Finding(
            "... that ratio / the ratio expected from the two models alone",
            summary(quotients(measured, expected)),
            Goal(0.95, 1.05),
        ),
    ]


def quotients(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Each of the first numbers divided by that of the others."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def make(root: Path, place: Scene) -> ImageScene:
    """Write the rows, a teacher of random weights and the store of its logits for all views below ``root``."""
    scene, rows = ImageScene(root, place), IMAGES * place.scale.rows
    for name in ("corpus", "teacher", "store"):
        (root / name).mkdir(parents=True)
    views = Augmentation(views=VIEWS)
    spec = CorpusSpec(task=TASK, source=Files(), holdout=0.0, train_rows=rows, eval_rows=DEV_ROWS, augmentation=views)
    corpus(spec, {"data/train": image_file(root, rows)}, root / "corpus", place.on())
    torch.manual_seed(0)
    build(TEACHER, None, read_meta(root / "corpus").task, root / "corpus").save_pretrained(root / "teacher")
    inputs = {"corpus": root / "corpus", "model": root / "teacher"}
    teach(TeachSpec(layers=()), inputs, root / "store", place.on())
    return scene


def image_file(root: Path, rows: int) -> Path:
    """The file of CIFAR-10's train, or one with enough random images."""
    found = Path(os.environ.get("STILLHOUSE_DATA", "../shared/data")) / "cifar10" / "train.parquet"
    if found.is_file():
        return found
    drawn = np.random.default_rng(0)
    count = 2 * rows
    images = [encoded(drawn.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(count)]
    table = pa.table({"image": images, "label": np.arange(count) % len(CLASSES)})
    pq.write_table(table, root / "random.parquet")
    return root / "random.parquet"


def encoded(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    """An image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["images", *sys.argv[1:]]))
