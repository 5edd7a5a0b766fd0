"""Dev scores of students that our loop, TextBrewer and the original code's loop train from one fine-tuned teacher.

    python -m benchmarks.peer_scores [--quick] [--rows N] [--epochs N] [--threads N]

For each seed all loops start from the same student and take the same batches in the same order, with the same loss and
learning rate; dropout differs, and our warm-up ends one step earlier. The last weights are scored. Padding does not
change what is learned, so all loops get our padding; nor does the graph that the original keeps for its teacher, whose
weights are frozen here.
"""

import argparse
import contextlib
import io
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import nn

from benchmarks import original_loop
from benchmarks.findings import Scale
from benchmarks.helped import helped, listed, named
from benchmarks.peers import check_textbrewer
from benchmarks.scene import BATCH, STUDENT, Scene, Watch, packaged_model
from cluster.inline import InlineWorker
from stages.corpus.corpus import corpus
from stages.corpus.task_files import task_files
from stages.evaluation.predictions import decide
from stages.models.loading import build, load
from stages.models.predict import predict
from stages.specs.axes.targets import TeacherTargets
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.method import Method
from stages.specs.student import DistilSpec, Pretrained, Train
from stages.specs.tasks import BUILT_IN
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.distil import distil
from stages.training.loop import fit
from stages.training.setup import TrainingSetup
from stages.training.teachers import signal_of

SEEDS = (0, 1, 2)
RATE = 2e-4
"""Small encoders, the teacher among them, want more than the default."""
TEACHER = Train(epochs=3, learning_rate=RATE, batch_size=BATCH, select="dev")

Right = npt.NDArray[np.bool_]
"""Whether the prediction for each row of dev is right, (N,)."""


@dataclass(frozen=True)
class SharedTask:
    """The data, teacher and start of all students."""

    scene: Scene
    epochs: int

    def student(self) -> nn.Module:
        torch.manual_seed(0)
        return build(STUDENT, self.scene.teacher, self.scene.meta.task)


def ours(given: SharedTask, seed: int) -> nn.Module:
    scene, student = given.scene, given.student()
    settings = Train(epochs=given.epochs, learning_rate=RATE, batch_size=BATCH, select="dev", seed=seed)
    spec = DistilSpec(start=STUDENT, method=Method(targets=TeacherTargets()), train=settings)
    signal = signal_of(spec, {"outputs": scene.store}, scene.train)
    setup = TrainingSetup(spec, scene.meta.task, scene.train, scene.dev, signal, scene.root / "none.pt", math.inf)
    fit(student, setup, InlineWorker(scene.scale.threads, Watch()))
    return student


def textbrewer(given: SharedTask, seed: int) -> nn.Module:
    from benchmarks import textbrewer_loop  # an extra, checked before

    student, loader = given.student(), helped(given.scene.train, named, seed)
    torch.manual_seed(seed)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        textbrewer_loop.train(student, load(given.scene.teacher), loader, given.epochs, RATE)
    return student


def original(given: SharedTask, seed: int) -> nn.Module:
    student, loader = given.student(), helped(given.scene.train, listed, seed)
    torch.manual_seed(seed)
    original_loop.train(student, load(given.scene.teacher).requires_grad_(False), loader, given.epochs, RATE)
    return student


WAYS: dict[str, Callable[[SharedTask, int], nn.Module]] = {
    "ours": ours,
    "TextBrewer": textbrewer,
    "original code": original,
}


def main(arguments: Sequence[str]) -> int:
    """Print a line for each student when it is trained, then the differences. Returns 0."""
    request = parse(arguments)
    check_textbrewer()
    with tempfile.TemporaryDirectory(prefix="stillhouse-bench-") as folder:
        os.environ["STILLHOUSE_CACHE"] = str(Path(folder) / "decoded")  # nothing is left in the user's own cache
        scene = make(Path(folder), Scale(request.rows, turns=len(SEEDS), threads=request.threads))
        given = SharedTask(scene, request.epochs)
        print(f"teacher: {accuracy(right(load(scene.teacher), scene)):.2f} on {len(scene.dev)} rows of dev", flush=True)
        found = {name: [answers(given, name, seed) for seed in SEEDS] for name in WAYS}
    for name in list(WAYS)[1:]:
        print(f"ours - {name}: {difference(found['ours'], found[name])}")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer_scores", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="128 rows and an epoch: does it run?")
    parser.add_argument("--rows", type=int, help="rows of train (2000)")
    parser.add_argument("--epochs", type=int, help="epochs of each student (3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the computation (1)")
    given = parser.parse_args(arguments)
    given.rows = given.rows or (128 if given.quick else 2000)
    given.epochs = given.epochs or (1 if given.quick else 3)
    return given


def make(root: Path, scale: Scale) -> Scene:
    """The sentences of SST-2, a teacher fine-tuned on them, and its store."""
    torch.set_num_threads(scale.threads)
    scene, task = Scene(root, scale), BUILT_IN["sst2_sentences"]
    for directory in (scene.corpus, root / "finetuned", scene.store):
        directory.mkdir()
    data = task_files(Path(os.environ.get("STILLHOUSE_DATA", "../shared/data")), task)
    inputs = {"tokenizer": packaged_model(), **{f"data/{split}": path for split, path in data.items()}}
    corpus(CorpusSpec(task=task, source=Files(), holdout=0.0, train_rows=scale.rows), inputs, scene.corpus, scene.on())
    spec = DistilSpec(start=Pretrained(), train=TEACHER)
    distil(spec, {"corpus": scene.corpus, "start": packaged_model()}, root / "finetuned", scene.on())
    (root / "finetuned" / "model").rename(scene.teacher)
    teach(TeachSpec(), {"corpus": scene.corpus, "model": scene.teacher}, scene.store, scene.on())
    return scene


def answers(given: SharedTask, name: str, seed: int) -> Right:
    start = time.perf_counter()
    found = right(WAYS[name](given, seed), given.scene)
    print(f"{name}, seed {seed}: {accuracy(found):.2f}  {time.perf_counter() - start:.0f} s", flush=True)
    return found


def right(model: nn.Module, scene: Scene) -> Right:
    task, dev = scene.meta.task, scene.dev
    found: Right = decide(task, predict(model, dev, task.outputs, "cpu")) == dev.labels.numpy()
    return found


def accuracy(found: Right) -> float:
    return 100 * float(found.mean())


def difference(one: Sequence[Right], other: Sequence[Right]) -> str:
    """The difference in points of accuracy, as text: with Student's interval over the seeds, from students of equal
    seed, and with the normal interval over the rows, from the mean over the seeds of the predictions for each row."""
    seeds = [accuracy(a) - accuracy(b) for a, b in zip(one, other, strict=True)]
    error = statistics.stdev(seeds) / math.sqrt(len(seeds)) * stats.t.ppf(0.975, len(seeds) - 1)
    rows = 100 * (np.mean(one, axis=0) - np.mean(other, axis=0))
    spread = stats.norm.ppf(0.975) * rows.std(ddof=1) / math.sqrt(len(rows))
    mean = statistics.mean(seeds)
    return (
        f"{mean:+.2f} points (seeds: {', '.join(f'{seed:+.2f}' for seed in seeds)}); 95% over seeds "
        f"{mean - error:+.2f} .. {mean + error:+.2f}, over rows {mean - spread:+.2f} .. {mean + spread:+.2f}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
