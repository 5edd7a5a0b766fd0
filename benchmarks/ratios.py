"""The gradients of the layer methods beside that of the labels when training starts, and how concentrated the attention
of ALP-KD is, on real data.

    python -m benchmarks ratios [--rows N] [--batches N] [--seeds N] [--threads N] [--json PATH]

For SST-2 by sentences and STS-B where the data folder has them (``STILLHOUSE_DATA``, or ``../shared/data``), else for
the project's own generated reviews: the packaged MiniLM is fine-tuned for one epoch, its outputs are stored, and a
student is cut out of its first two layers. The gradients are those of ``stages/training/objective/auto_weight.py``, on
the student's embeddings and layers, with mean-pooled states. docs/methods.md has the figures of
docs/results/gradient_ratios.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.pairs import hardware
from benchmarks.scene import packaged_model, rows_source
from cluster.inline import Inline, InlineWorker
from cluster.resources import On, Resources, SilentListener
from pipeline.methods import BY_NAME
from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta
from stages.corpus.rowset import read_rowset
from stages.models.forward import forward, pooled_state
from stages.models.loading import build
from stages.outputs.layout import read_store
from stages.specs.corpus import CorpusSpec
from stages.specs.layers import Attend, Structure
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.student import Cut, DistilSpec, Pretrained, Train
from stages.specs.tasks import BUILT_IN, Task
from stages.specs.teacher import ProbeSpec, TeachSpec
from stages.teaching.probe import probe
from stages.teaching.teach import teach
from stages.training.distil import distil
from stages.training.loop import Training
from stages.training.objective.auto_weight import compared_plan, first_batches, gradient_norms
from stages.training.objective.layer_losses import attention, stacked
from stages.training.setup import TrainingSetup
from stages.training.teachers import signal_of, teacher_widths

TASKS = ("sst2_sentences", "stsb")
STUDENT = Cut(layers=(0, 1))
STUDENT_LAYERS = 2
FINETUNING = Train(epochs=1, learning_rate=1e-4, precision="bfloat16", select="dev")
BATCH_SIZE = 32
DEV_ROWS = 200
FOLDS = 2
"""Folds of the classifiers on layers: fewer than universal-kd has, because fitting them takes most of the time."""

WEIGHTS: Mapping[str, float] = {
    "pkd": 500.0,
    "pkd-last": 500.0,
    "random-map": 500.0,
    "ckd": 2.333,
    "ckd-po": 2.333,
    "alp": 25.0,
    "alp-no": 25.0,
    "alp-po": 25.0,
    "rail-kd": 0.5,
    "rail-kd-joined": 0.5,
    "distilbert": 0.143,
    "relational-kd": 1.0,
    "universal-kd": 1.0,
}
"""The constant of each layer method's source (see "Defaults" in docs/methods.md)."""

ATTENTIONS: Mapping[str, Mapping[str, float]] = {
    "plain": {},
    "temperature: 4": {"temperature": 4.0},
    "scaled: true": {"scaled": True},
}
"""Settings of ``alp`` whose attention is compared. ``scaled`` divides by the square root of 384, 19.6."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The length of a layer method's gradient over that of the labels, at ``weight`` and at weight 1: medians over the
    batches of all seeds, with the least and the greatest ``at_weight``."""

    task: str
    method: str
    weight: float
    at_weight: float
    least: float
    greatest: float
    at_one: float


@dataclass(frozen=True, slots=True)
class Concentration:
    """The attention of one student layer to the teacher's layers when training starts: the mean over rows of the
    largest weight, and the layer that has the largest weight for most rows, with the share of these rows."""

    task: str
    attention: str
    student_layer: int
    largest: float
    layer: int
    rows: float


@dataclass(frozen=True, slots=True)
class Ground:
    """A task's corpus, its fine-tuned teacher, and the stores of the teacher's outputs and of classifiers on its
    layers."""

    folder: Path
    task: Task
    threads: int

    @property
    def inputs(self) -> Mapping[str, Path]:
        """The inputs of a training, by name."""
        return {name: self.folder / name for name in ("corpus", "outputs", "probes")}

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher" / "model"

    @property
    def depth(self) -> int:
        """The number of the teacher's layers."""
        return max(read_store(self.folder / "outputs").layout.layers)

    def training(self, structure: Structure, method: Method, seed: int) -> Training:
        """A training of the student that has not begun, with ``structure`` in place of the method's."""
        structure = structure.resolved(STUDENT_LAYERS, self.depth, seed)
        method = method.model_copy(update={"structure": structure})
        spec = DistilSpec(start=STUDENT, method=method, train=Train(epochs=1, batch_size=BATCH_SIZE, seed=seed))
        rows = read_rowset(self.folder / "corpus", "train")
        inputs = dict(self.inputs) if method.needs_probes else {**self.inputs, "probes": Path()}
        signal = signal_of(spec, inputs, rows, lambda _: None)
        widths = teacher_widths(method, inputs)
        checkpoint = self.folder / "none.pt"
        setup = TrainingSetup(spec, self.task, rows, rows, signal, checkpoint, teacher_widths=widths)
        torch.manual_seed(seed)
        return Training(build(STUDENT, self.teacher, self.task), setup, InlineWorker(self.threads, SilentListener()))


def main(arguments: Sequence[str]) -> int:
    """Measure what the arguments name, and print it. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ratios", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="tasks to measure on (both)")
    parser.add_argument("--rows", type=int, default=2000, help="rows of train (2000)")
    parser.add_argument("--batches", type=int, default=4, help="batches of each seed (4)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (3)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the computation (1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    ratios: list[Ratio] = []
    concentrations: list[Concentration] = []
    with tempfile.TemporaryDirectory(prefix="stillhouse-ratios-") as folder:
        for name in given.tasks:
            ground = prepared(Path(folder) / name, BUILT_IN[name], given.rows, given.threads)
            for method in WEIGHTS:
                print(f"{name}: {method}", file=sys.stderr, flush=True)
                ratios.append(ratio_of(ground, method, given.batches, given.seeds))
            concentrations += concentrations_of(ground)
    print_tables(ratios, concentrations)
    if given.json:
        command = f"python -m benchmarks ratios --rows {given.rows} --batches {given.batches} --seeds {given.seeds}"
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "hardware": hardware(), "command": command}
        figures = {"ratios": [asdict(one) for one in ratios], "attention": [asdict(one) for one in concentrations]}
        given.json.write_text(json.dumps({"about": about, **figures}, indent=1) + "\n", "utf-8")
    return 0


def prepared(folder: Path, task: Task, rows: int, threads: int) -> Ground:
    """Write corpus, teacher and stores below ``folder``, with the project's own stages."""
    for name in ("corpus", "teacher", "outputs", "probes"):
        (folder / name).mkdir(parents=True)
    task, source, files = rows_source(rows, task)
    spec = CorpusSpec(task=task, source=source, holdout=0.0, train_rows=rows, eval_rows=DEV_ROWS)
    corpus(spec, {"tokenizer": packaged_model(), **files}, folder / "corpus", on(threads))
    start = {"corpus": folder / "corpus", "start": packaged_model()}
    distil(DistilSpec(start=Pretrained(), train=FINETUNING), start, folder / "teacher", on(threads))
    ground = Ground(folder, read_meta(folder / "corpus").task, threads)
    given = {"corpus": folder / "corpus", "model": ground.teacher}
    teach(TeachSpec(), given, folder / "outputs", on(threads))
    classifiers = ProbeSpec(layers=tuple(range(1, ground.depth + 1)), folds=FOLDS)
    probe(classifiers, ground.inputs, folder / "probes", on(threads))
    return ground


def on(threads: int) -> On:
    return Inline().on(Resources(cpus_per_worker=threads), SilentListener())


def ratio_of(ground: Ground, name: str, batches: int, seeds: int) -> Ratio:
    """The ratio of the named method of the catalogue, at the constant of its source."""
    method, weight = BY_NAME[name].method, WEIGHTS[name]
    found: list[float] = []
    for seed in range(seeds):
        training = ground.training(method.structure, method, seed)
        plan = compared_plan(training.parts, method.training.phases(1)[0])
        for rows in first_batches(training.parts)[:batches]:
            labels, layers = gradient_norms(training.parts, rows, plan)
            found.append(layers / labels)
    median = statistics.median(found)
    least, greatest = weight * min(found), weight * max(found)
    return Ratio(ground.task.name, name, weight, weight * median, least, greatest, median)


def concentrations_of(ground: Ground) -> Iterator[Concentration]:
    """The concentration of each student layer's attention, by settings of ``alp``, over all rows of train."""
    alp = BY_NAME["alp"].method
    training = ground.training(alp.structure, alp, 0)
    structure = training.setup.spec.method.structure
    assert isinstance(structure, Attend)
    groups = structure.layer_groups()
    request = OutputRequest(layers=groups[0].teacher)
    states: dict[int, list[torch.Tensor]] = {group.student: [] for group in groups}
    outputs: dict[int, list[torch.Tensor]] = {group.student: [] for group in groups}
    model = training.model.eval()
    for rows in first_batches(training.parts):
        batch = training.setup.train.batch(rows, "cpu")
        stored = training.setup.signal.read(rows, request)
        with torch.no_grad():
            hidden = forward(model, batch.inputs, hidden=True).states
        for group in groups:
            state = pooled_state(hidden[group.student], batch.inputs["attention_mask"], structure.pooling)
            states[group.student].append(state)
            outputs[group.student].append(stacked(group, {name: values.float() for name, values in stored.items()}))
    for setting, changes in ATTENTIONS.items():
        for group in groups:
            query_BD, teacher_BKD = torch.cat(states[group.student]), torch.cat(outputs[group.student])
            divisor = query_BD.shape[1] ** 0.5 if changes.get("scaled") else changes.get("temperature", 1.0)
            largest, places = attention(query_BD / divisor, teacher_BKD).max(-1)
            counts = np.bincount(places.numpy())
            layer, share = group.teacher[int(counts.argmax())], float(counts.max() / counts.sum())
            yield Concentration(ground.task.name, setting, group.student, float(largest.mean()), layer, share)


def print_tables(ratios: Sequence[Ratio], concentrations: Sequence[Concentration]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    for figures in (ratios, concentrations):
        table = Table(header_style="bold")
        for head in asdict(figures[0]):
            table.add_column(head)
        for one in figures:
            values = asdict(one).values()
            table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values))
        console.print(table)
