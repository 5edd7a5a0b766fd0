"""What training and the teacher's dump cost on a GPU, beside bare PyTorch on the same batches.

    python -m benchmarks gpu [--device cuda:0] [--rows N] [--turns N] [--seconds N] [--json PATH]
    python -m benchmarks gpu --device cpu --tiny        run every path at a small size, without a GPU

Needs torch, transformers, pyarrow and pydantic; Ray, FAISS, datasets, scikit-learn and scipy are not imported. Rows
are those of MNLI where the data folder has them (``STILLHOUSE_DATA``, or ``../shared/data``), else the project's own
generated reviews; the tokenizer's vocabulary is learned from them. Models have random weights: what weights hold
changes no time. Each ratio is our seconds / the bare script's, from the start of the training or dump to the moment
when the device has finished its last step. Loading a model and scoring an epoch are part of neither side.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
import transformers
from rich.console import Console
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from benchmarks import bare_gpu, bare_loop
from benchmarks.findings import Finding, print_table, write_json
from benchmarks.pairs import Cost, hardware, interleaved, ratios, summary, walls
from benchmarks.scene import DEV_ROWS, VOCABULARY, Watch, learn_tokenizer, rows_source
from cluster.inline import Inline, InlineOn, InlineWorker
from cluster.resources import Resources
from stages.corpus.batches import epoch_batches, parts, sorted_batches
from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta
from stages.corpus.rowset import distinct, read_rowset
from stages.models.loading import quieten
from stages.models.predict import tokens_per_pass
from stages.outputs.sizes import SHARD_ROWS
from stages.specs.corpus import CorpusSpec
from stages.specs.method import Method
from stages.specs.seeds import seed_of
from stages.specs.student import DistilSpec, Pretrained, Train
from stages.specs.tasks import BUILT_IN
from stages.specs.teacher import TeachSpec
from stages.teaching.job import TeachJob
from stages.teaching.teach import teach
from stages.teaching.worker import TeacherWorker
from stages.training.loop import Training
from stages.training.setup import TrainingSetup
from stages.training.signal import NoTeacher

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

Precision = Literal["float32", "bfloat16"]

CHECKED_STEPS, CHECKED_ROWS = 5, 32
TOLERANCE = 1e-3
"""Relative difference allowed between a step's loss on the device and on the CPU: float32, no dropout, equal batches.
Both sum in other orders, and AdamW amplifies what that changes in gradients near 0."""


class Shape(NamedTuple):
    """A BERT encoder's size."""

    layers: int
    width: int
    heads: int

    def __str__(self) -> str:
        return f"{self.layers} x {self.width:,}"


BASE, SMALL, LARGE, MINIATURE = Shape(6, 768, 12), Shape(2, 384, 12), Shape(24, 1024, 16), Shape(2, 32, 2)
TRAININGS: Sequence[tuple[Shape, Precision, int]] = (
    (BASE, "bfloat16", 32),
    (BASE, "bfloat16", 256),
    (BASE, "float32", 32),
    (BASE, "float32", 256),
    (SMALL, "bfloat16", 32),
    (SMALL, "float32", 32),
)


@dataclass(frozen=True)
class Plan:
    """What one call of the script measures. ``trainings`` are (student, precision, batch size); ``matmul`` is the side
    of the matrices whose product tells the device's peak."""

    rows: int = 4096
    turns: int = 3
    matmul: int = 8192
    trainings: Sequence[tuple[Shape, Precision, int]] = TRAININGS
    teacher: Shape = LARGE
    checked: Shape = SMALL


FULL = Plan()
TINY = Plan(192, 1, 128, ((MINIATURE, "bfloat16", 32), (MINIATURE, "float32", 64)), Shape(3, 32, 2), MINIATURE)


class LastStepDone(Exception):
    """Raised by a listener to end a training before its epoch is scored."""


class StepWatch(Watch):
    """Waits for the device after the last of ``rows`` rows, keeps the time, and ends the training there."""

    def __init__(self, device: str, rows: int, at_step: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.device, self.left, self.at_step = device, rows, at_step

    def advance(self, amount: float) -> None:
        self.at_step()
        self.left -= int(amount)
        if self.left <= 0:
            synchronize(self.device)
            super().advance(amount)
            raise LastStepDone


class DeviceWorker(InlineWorker):
    """The one worker of this process, on ``device``."""

    def __init__(self, device: str, watch: Watch) -> None:
        super().__init__(torch.get_num_threads(), watch)
        self.device = device


class DumpOn(InlineOn):
    """Runs the teach stage's worker on ``device``. ``seconds`` is what its items took once its model was loaded."""

    def __init__(self, device: str) -> None:
        super().__init__(Resources(cpus_per_worker=torch.get_num_threads()), Watch())
        self.device, self.seconds = device, math.nan

    def map(
        self,
        open_worker: Callable[[Config, InlineWorker], Callable[[Item], Result]],  # noqa: ARG002
        config: Config,
        items: Sequence[Item],
    ) -> Iterator[tuple[int, Result]]:
        assert isinstance(config, TeachJob)
        worker: Any = TeacherWorker(config, DeviceWorker(self.device, Watch()))
        worker.model.requires_grad_(False)
        synchronize(self.device)
        start = time.perf_counter()
        results = [worker.write(item) for item in items]
        self.seconds = time.perf_counter() - start
        return iter(enumerate(results))


class GpuScene:
    """The corpus, and what both sides do with it on one device."""

    def __init__(self, root: Path, plan: Plan, device: str) -> None:
        self.root, self.plan, self.device = root, plan, device
        self.corpus = root / "corpus"
        task, source, files = rows_source(plan.rows, BUILT_IN["mnli"])
        learn_tokenizer(task, files, root / "tokenizer")
        spec = CorpusSpec(task=task, source=source, holdout=0.0, train_rows=plan.rows, eval_rows=DEV_ROWS)
        inputs = {"tokenizer": root / "tokenizer", **files}
        corpus(spec, inputs, self.corpus, Inline().on(Resources(cpus_per_worker=torch.get_num_threads()), Watch()))
        self.task = read_meta(self.corpus).task
        self.train = read_rowset(self.corpus, "train")
        self.dev = read_rowset(self.corpus, self.task.dev_splits[0])
        self.peak = matmul_flops(plan.matmul, device)

    def model(self, shape: Shape, dropout: float = 0.1) -> nn.Module:
        """A classifier of random weights, the same at each call."""
        torch.manual_seed(0)
        config = AutoConfig.for_model(
            "bert",
            vocab_size=VOCABULARY,
            num_hidden_layers=shape.layers,
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            num_labels=self.task.outputs,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        model: nn.Module = AutoModelForSequenceClassification.from_config(config)
        return model

    def setup(self, precision: Precision, batch_size: int, checkpoint_seconds: float) -> TrainingSetup:
        settings = Train(epochs=1, batch_size=batch_size, select="dev", precision=precision)
        spec = DistilSpec(start=Pretrained(), method=Method(), train=settings)
        checkpoint = self.root / "checkpoint.pt"
        checkpoint.unlink(missing_ok=True)
        return TrainingSetup(spec, self.task, self.train, self.dev, NoTeacher(), checkpoint, checkpoint_seconds)

    def losses(self, device: str) -> list[float]:
        """The mean loss of each of the first ``CHECKED_STEPS`` steps, in float32 without dropout."""
        count = (CHECKED_STEPS + 1) * CHECKED_ROWS
        sums: list[float] = []
        watch = StepWatch(device, count, lambda: sums.append(training.progress.loss))
        setup = self.setup("float32", CHECKED_ROWS, checkpoint_seconds=-1.0)  # a checkpoint reads the loss
        training = Training(self.model(self.plan.checked, dropout=0.0), setup, DeviceWorker(device, watch))
        with suppress(LastStepDone):
            training.run()
        return [float(loss) / CHECKED_ROWS for loss in np.diff(sums)]

    def training(self, shape: Shape, precision: Precision, batch_size: int) -> Finding:
        """An epoch of hard labels by the project's loop, and by the bare loop."""
        model, train = self.model(shape), self.train
        start = {name: value.clone() for name, value in model.state_dict().items()}
        batches = epoch_batches(train.tokens.lengths, batch_size, seed_of(0, 0, 0))
        rows = bare_loop.split_rows(train.tokens.values, train.tokens.offsets)

        def ours() -> float:
            model.load_state_dict(start)
            watch, setup = StepWatch(self.device, len(train)), self.setup(precision, batch_size, math.inf)
            begun = time.perf_counter()
            with suppress(LastStepDone):
                Training(model, setup, DeviceWorker(self.device, watch)).run()
            model.zero_grad(set_to_none=True)
            return watch.wall - begun

        def bare() -> float:
            model.load_state_dict(start)
            begun = time.perf_counter()
            bare_gpu.epoch(model, rows, train.labels, batches, train.pad, self.device, precision)
            return time.perf_counter() - begun

        flops = 6 * parameters(model) * int(train.tokens.lengths.sum())
        return self._compared(
            f"epoch of {shape}, {precision}, batch {batch_size} / bare loop", ours, bare, flops, len(train)
        )

    def dump(self, shape: Shape) -> Finding:
        """The teach stage in bfloat16, writing included, and a forward that brings pooled states to the host."""
        rows, directory = distinct([self.train]), self.root / "teacher"
        model: Any = self.model(shape)
        model.save_pretrained(directory)
        model.eval()
        budget = tokens_per_pass(self.device, DeviceWorker(self.device, Watch()).threads)
        batches = [
            start + batch
            for start, end in parts(len(rows), SHARD_ROWS)
            for batch in sorted_batches(rows.tokens.lengths[start:end], budget)
        ]
        tensors = bare_loop.split_rows(rows.tokens.values, rows.tokens.offsets)

        def ours() -> float:
            with tempfile.TemporaryDirectory(dir=self.root) as out:
                on = DumpOn(self.device)
                teach(TeachSpec(compute="bfloat16"), {"corpus": self.corpus, "model": directory}, Path(out), on)
            return on.seconds

        def bare() -> float:
            model.to(self.device)
            synchronize(self.device)
            begun = time.perf_counter()
            bare_gpu.forward(model, tensors, batches, rows.pad, self.device)
            seconds = time.perf_counter() - begun
            model.cpu()
            return seconds

        flops = 2 * parameters(model) * int(rows.tokens.lengths.sum())
        return self._compared(f"dump of {shape}, bfloat16 / bare forward", ours, bare, flops, len(rows))

    def _compared(
        self, what: str, ours: Callable[[], float], bare: Callable[[], float], flops: int, rows: int
    ) -> Finding:
        """Both functions take turns and return seconds; ``flops`` and ``rows`` are what one call of either does."""
        memory: dict[str, int] = {}

        def side(name: str, run: Callable[[], float]) -> Callable[[], Cost]:
            def measure() -> Cost:
                forget_memory(self.device)
                seconds = run()
                memory[name] = most_memory(self.device)
                return Cost(seconds)

            return measure

        turns = interleaved({"ours": side("ours", ours), "bare": side("bare", bare)}, self.plan.turns)
        own, other = statistics.median(walls(turns, "ours")), statistics.median(walls(turns, "bare"))
        note = f"rows/s: {rows / own:,.0f}, bare {rows / other:,.0f}; {flops / own / self.peak:.1%} of the peak"
        if self.device != "cpu":
            note += f"; memory: {memory['ours'] / 2**30:.2f} GiB, bare {memory['bare'] / 2**30:.2f} GiB"
        return Finding(what, summary(ratios(turns, "ours", "bare")), note=note)


def synchronize(device: str) -> None:
    """Wait until the device has done all it was given."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def forget_memory(device: str) -> None:
    """Give back what torch holds unused, and count the largest allocation anew."""
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)


def most_memory(device: str) -> int:
    """The largest allocation in bytes since ``forget_memory``; 0 on a CPU, which torch does not count."""
    return 0 if device == "cpu" else torch.cuda.max_memory_allocated(device)


def matmul_flops(size: int, device: str, count: int = 10) -> float:
    """Floating-point operations a second of square bfloat16 matrix products: the peak that this device reaches."""
    one = torch.randn(size, size, device=device).bfloat16()
    other = torch.randn_like(one)
    for _ in range(3):
        one @ other
    synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        one @ other
    synchronize(device)
    return count * 2 * size**3 / (time.perf_counter() - start)


def parameters(model: nn.Module) -> int:
    """Parameters that each token is multiplied with: all but the embeddings."""
    return sum(value.numel() for name, value in model.named_parameters() if "embeddings" not in name)


def main(arguments: Sequence[str]) -> int:
    """0 where all was measured or there is no such device, 1 where the losses differ from the CPU's."""
    given = parse(arguments)
    if given.device != "cpu" and not torch.cuda.is_available():
        print("gpu: torch finds no GPU here, so nothing was measured; --device cpu --tiny tries the script on a CPU")
        return 0
    quieten()
    console, begun = Console(highlight=False, width=None if sys.stdout.isatty() else 180), time.perf_counter()
    plan = TINY if given.tiny else FULL
    plan = replace(plan, rows=given.rows or plan.rows, turns=given.turns or plan.turns)
    with tempfile.TemporaryDirectory(prefix="stillhouse-gpu-") as folder:
        scene = GpuScene(Path(folder), plan, given.device)
        about = described(scene)
        for name, value in about.items():
            console.print(f"{name}: {value}", soft_wrap=True)
        agree, about["losses"] = losses_agree(scene)
        console.print(f"losses: {about['losses']}", soft_wrap=True)
        found = measured(scene, console, begun + given.seconds)
    print_table(found, console)
    console.print(f"{time.perf_counter() - begun:.0f} s in all")
    if given.json:
        write_json(found, about, given.json)
    return 0 if agree else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (cuda:0)")
    parser.add_argument("--tiny", action="store_true", help="small models and few rows: does it run?")
    parser.add_argument("--rows", type=int, metavar="N", help=f"rows of train ({FULL.rows:,})")
    parser.add_argument("--turns", type=int, metavar="N", help=f"turns of each comparison ({FULL.turns})")
    parser.add_argument("--seconds", type=float, default=200.0, help="start no comparison after so many seconds (200)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    return parser.parse_args(arguments)


def described(scene: GpuScene) -> dict[str, str]:
    """What the figures were measured on."""
    train, device = scene.train, scene.device
    card = "a CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return {
        "device": f"{device}, {card}; bfloat16 matrix products: {scene.peak / 1e12:.3g} TFLOP/s",
        "host": hardware(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "rows": f"{len(train):,} of {scene.task.name}, {train.tokens.lengths.mean():.1f} tokens each",
    }


def losses_agree(scene: GpuScene) -> tuple[bool, str]:
    """Whether the first steps' losses on the device are the CPU's within ``TOLERANCE``, and a sentence about it."""
    here, cpu = scene.losses(scene.device), scene.losses("cpu")
    worst = max(abs(one - other) / other for one, other in zip(here, cpu, strict=True))
    agree = worst <= TOLERANCE
    return agree, (
        f"{'equal to' if agree else 'DIFFERENT from'} the CPU's: over {len(cpu)} steps of {scene.plan.checked} in "
        f"float32 without dropout they differ by at most {worst:.2g} of their value; allowed are {TOLERANCE:g}"
    )


def measured(scene: GpuScene, console: Console, ends: float) -> list[Finding]:
    """Every comparison of the plan that could start before ``ends``, the dump first."""
    plan = scene.plan
    comparisons = [partial(scene.dump, plan.teacher)]
    comparisons += [partial(scene.training, *training) for training in plan.trainings]
    found = [compare() for compare in comparisons if time.perf_counter() < ends]
    if len(found) < len(comparisons):
        console.print(f"--seconds is over: {len(comparisons) - len(found)} comparisons were not made")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
