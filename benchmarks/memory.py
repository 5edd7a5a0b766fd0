"""Memory of a worker that trains from a large store, above that of the same training without a teacher.

It is the largest RssAnon + RssShmem of a separate process, read twenty times a second from its start to its last step.
The store holds random states of 24 layers and the embeddings, 384 wide, for generated rows; every step gathers all of
them. Pages of the decoded files belong to the kernel and are not counted.
"""

import multiprocessing
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import summary
from benchmarks.scene import STUDENT, Scene, Watch, packaged_model
from cluster.inline import InlineWorker
from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta, read_split
from stages.outputs.layout import Layout, write_store
from stages.outputs.parquet import write_shard
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.corpus import CorpusSpec, Generated
from stages.specs.layers import Pick
from stages.specs.method import Method
from stages.specs.student import DistilSpec, Train
from stages.specs.tasks import REVIEWS
from stages.teaching.teach import tokenisation
from stages.training.job import StudentJob

LAYOUT = Layout("pooled", tuple(range(25)), 384, 12, 2, "mean", "float16")
ROW_BYTES = 25 * 384 * 2
STEPS = 30
LARGE = 5_000_000_000
"""Bytes of states in a full run; a quick one has a hundredth."""


@dataclass(frozen=True)
class Training:
    """What the separate process is to do."""

    job: StudentJob
    threads: int


class Enough(Exception):
    """Raised to end a training after enough steps."""


def measure(scene: Scene) -> list[Finding]:
    size = LARGE if scene.scale.turns >= 7 else LARGE // 100
    root = scene.root / "memory"
    store = write_large(scene, root, size // ROW_BYTES)
    follows = Pick(pairs=tuple((1, layer) for layer in range(25)), weight=1.0)
    from_store = Method(targets=TeacherTargets(), training=OnePhase(), structure=follows)
    none = peak(scene, root, "none", Method(), {})
    cold = peak(scene, root, "cold", from_store, {"outputs": store})
    warm = peak(scene, root, "warm", from_store, {"outputs": store})
    named = f"a store of {size / 1e9:.2g} GB"
    return [
        Finding("memory, no teacher", summary([none / 1e9]), unit="GB", once=True),
        Finding(
            f"memory above that, {named}, decoded first", summary([(cold - none) / 1e9]), Goal(most=1), "GB", once=True
        ),
        Finding(
            f"memory above that, {named}, decoded before",
            summary([(warm - none) / 1e9]),
            Goal(most=1),
            "GB",
            once=True,
        ),
    ]


def write_large(scene: Scene, root: Path, rows: int) -> Path:
    """Write a corpus of so many generated rows and a store of random states for it; the store's folder."""
    for name in ("corpus", "store"):
        (root / name).mkdir(parents=True)
    spec = CorpusSpec(task=REVIEWS, source=Generated(train=rows, validation=64, test=64), max_length=32)
    corpus(spec, {"tokenizer": packaged_model()}, root / "corpus", scene.on())
    keys = list(dict.fromkeys(read_split(root / "corpus", "train").keys))
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((4096 + 64, LAYOUT.width), np.float32).astype(np.float16)
    files = []
    for number, start in enumerate(range(0, len(keys), 4096)):
        own = keys[start : start + 4096]
        # Slices of one block of noise at different offsets: new numbers would take longer to draw than to write.
        states = {state.column: noise[state.layer : state.layer + len(own)] for state in LAYOUT.states}
        files.append(write_shard(root / "store", number, LAYOUT, own, np.zeros((len(own), 2), np.float32), states))
    write_store(root / "store", LAYOUT, tokenisation(read_meta(root / "corpus")), files)
    return root / "store"


def peak(scene: Scene, root: Path, name: str, method: Method, inputs: Mapping[str, Path]) -> int:
    """The largest memory, in bytes, of a process that trains for ``STEPS`` steps."""
    out = root / name
    out.mkdir()
    spec = DistilSpec(start=STUDENT, method=method, train=Train(epochs=1, select="dev"))
    job = StudentJob(spec, {"corpus": root / "corpus", "start": scene.teacher, **inputs}, out)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(trained, Training(job, scene.scale.threads)).result()


def trained(training: Training) -> int:
    """Train in this process; its largest memory in bytes."""
    from stages.training.worker import train

    with watched() as largest, suppress(Enough):
        train(training.job, InlineWorker(training.threads, Stopping(STEPS)))
    return largest[0]


@contextmanager
def watched() -> Iterator[list[int]]:
    """In the context, the only element of the list is the largest memory of this process so far, in bytes."""
    largest, ended = [0], threading.Event()

    def read_regularly() -> None:
        while not ended.wait(0.05):
            largest[0] = max(largest[0], resident())

    thread = threading.Thread(target=read_regularly)
    thread.start()
    try:
        yield largest
    finally:
        ended.set()
        thread.join()


class Stopping(Watch):
    """Ends the training after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def advance(self, amount: float) -> None:
        super().advance(amount)
        self.left -= amount > 0
        if self.left <= 0:
            raise Enough


def resident() -> int:
    """RssAnon + RssShmem of this process in bytes."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))}
    return 1024 * (found["RssAnon"] + found["RssShmem"])


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["memory", *sys.argv[1:]]))
