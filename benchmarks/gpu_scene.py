"""What ``benchmarks/gpu.py`` measures on one device: a corpus, models of random weights, the project's own training and
dump, and the frozen bare ones of ``bare_gpu.py`` on the same batches."""

import math
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from benchmarks import bare_gpu, bare_loop
from benchmarks.findings import Finding
from benchmarks.gpu_device import (
    DumpOn,
    LastStepDone,
    NeverCaptured,
    RandomLogits,
    StepWatch,
    device_worker,
    forget_memory,
    matmul_flops,
    most_memory,
    parameters,
    synchronize,
)
from benchmarks.pairs import Cost, interleaved, ratios, summary, walls
from benchmarks.scene import DEV_ROWS, VOCABULARY, Watch, learn_tokenizer, rows_source
from cluster.inline import Inline
from cluster.resources import Resources
from stages.corpus.batches import epoch_batches, parts, sorted_batches, steps_of
from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta
from stages.corpus.rowset import distinct, read_rowset
from stages.models.adapters.text import tokens_per_pass
from stages.outputs.sizes import SHARD_ROWS
from stages.specs.axes.data import Neighbours
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.corpus import CorpusSpec
from stages.specs.method import Method
from stages.specs.seeds import seed_of
from stages.specs.student import DistilSpec, Pretrained, Train
from stages.specs.tasks import BUILT_IN
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.candidates import CandidatePool
from stages.training.loop import Training
from stages.training.setup import TrainingSetup
from stages.training.signal import NoTeacher, Signal, StoredSignal
from stages.training.steps.graphs import GraphedStep
from stages.training.sums import LOSS

Precision = Literal["float32", "bfloat16"]
Way = Literal["kernels", "graphs", "compiled"]
"""How steps run: kernel by kernel, as CUDA graphs, or as CUDA graphs of a compiled model."""

WAYS: Mapping[Way, Mapping[str, object]] = {
    "kernels": {"graphs": "off"},
    "graphs": {"graphs": "on"},
    "compiled": {"graphs": "on", "compile": True},
}


class Shape(NamedTuple):
    """A BERT encoder's size."""

    layers: int
    width: int
    heads: int

    def __str__(self) -> str:
        return f"{self.layers} x {self.width:,}"


class Epochs(NamedTuple):
    """A training whose last epoch is timed."""

    shape: Shape
    precision: Precision
    batch_size: int
    epochs: int
    ways: Sequence[Way]
    beside: bool = False
    """Whether each row is trained with one of eight unlabelled texts beside it, as the method ``transfer`` does."""


FIELDS: Mapping[str, Mapping[str, str]] = {
    "distilbert": {
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
    "modernbert": {"hidden_dropout_prob": "mlp_dropout", "attention_probs_dropout_prob": "attention_dropout"},
}
"""Fields of an architecture's configuration that have other names than BERT's."""


@dataclass(frozen=True)
class Scale:
    """``rows`` of train, and those of which a teacher's outputs are stored; ``turns`` of each comparison; and the side
    of the matrices whose product tells the device's peak."""

    rows: int
    dump_rows: int
    turns: int
    matmul: int


class GpuScene:
    """The corpus, and what both sides do with it on one device."""

    def __init__(self, root: Path, scale: Scale, device: str) -> None:
        self.root, self.scale, self.device = root, scale, device
        self.corpus = self.corpus_of(scale.rows, root / "corpus")
        self.task = read_meta(self.corpus).task
        self.train = read_rowset(self.corpus, "train")
        self.dev = read_rowset(self.corpus, self.task.dev_splits[0])
        self.peak = matmul_flops(scale.matmul, device)

    def corpus_of(self, rows: int, folder: Path) -> Path:
        """A corpus in ``folder`` with so many rows of train, or all where there are fewer."""
        task, source, files = rows_source(rows, BUILT_IN["mnli"])
        tokenizer = self.root / "tokenizer"
        if not tokenizer.exists():
            learn_tokenizer(task, files, tokenizer)
        spec = CorpusSpec(task=task, source=source, holdout=0.0, train_rows=rows, eval_rows=DEV_ROWS)
        on = Inline().on(Resources(cpus_per_worker=torch.get_num_threads()), Watch())
        corpus(spec, {"tokenizer": tokenizer, **files}, folder, on)
        return folder

    def model(self, shape: Shape, dropout: float = 0.1, architecture: str = "bert") -> nn.Module:
        """A classifier of random weights, the same at each call."""
        torch.manual_seed(0)
        fields = {
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.width,
            "num_attention_heads": shape.heads,
            "intermediate_size": 4 * shape.width,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
        names = FIELDS.get(architecture, {})
        named = {names.get(name, name): value for name, value in fields.items()}
        special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
        config = AutoConfig.for_model(
            architecture, vocab_size=VOCABULARY, num_labels=self.task.outputs, **special, **named
        )
        model: nn.Module = AutoModelForSequenceClassification.from_config(config)
        return model

    def setup(self, name: str = "checkpoint", beside: bool = False, **train: object) -> TrainingSetup:
        settings = Train.model_validate({"epochs": 1, "select": "dev", **train})
        method, pool = Method(), None
        signal: Signal = NoTeacher()
        if beside:
            random = np.random.Generator(np.random.PCG64(5))
            logits = random.normal(size=(len(self.train), self.task.outputs)).astype(np.float32)
            signal = StoredSignal([RandomLogits(logits)])
            table = random.integers(len(self.train), size=(len(self.train), 8))
            pool = CandidatePool(self.train, signal, table, np.full(table.shape, np.nan, np.float32))
            method = Method(targets=TeacherTargets(), training=OnePhase(), data=Neighbours(k=8, draw=1))
        spec = DistilSpec(start=Pretrained(), method=method, train=settings)
        checkpoint = self.root / f"{name}.pt"
        checkpoint.unlink(missing_ok=True)
        return TrainingSetup(spec, self.task, self.train, self.dev, signal, checkpoint, math.inf, candidate_pool=pool)

    def losses(
        self, device: str, model: nn.Module, steps: int, captured: bool = True, beside: bool = False, **train: object
    ) -> list[float]:
        """The mean loss of each of the first ``steps`` steps of 32 rows. Without ``captured``, a training with graphs
        runs what they would run kernel by kernel."""
        size = 32
        found: list[float] = []
        watch = StepWatch(device, (steps + 1) * size)
        training = Training(model, self.setup(beside=beside, batch_size=size, **train), device_worker(device, watch))
        if not captured:
            assert isinstance(training.step, GraphedStep)
            step = training.step
            training.step = NeverCaptured(step, step.graphs, step.longest, step.examples)
        run, place = training.step.run, training.layout.place(LOSS)

        def read(*arguments: Any) -> torch.Tensor:
            total = run(*arguments)
            found.append(float(total[place]) / size)
            return total

        training.step.run = read  # type: ignore[method-assign]
        with suppress(LastStepDone):
            training.run()
        training.step.close()
        return found[:steps]

    def graph_difference(self, shape: Shape, architecture: str, steps: int, beside: bool = False) -> float:
        """The largest relative difference of a step's loss between captured steps and the same steps kernel by kernel,
        in bfloat16 with dropout."""

        def losses(captured: bool) -> list[float]:
            model = self.model(shape, architecture=architecture)
            return self.losses(self.device, model, steps, captured, beside, graphs="on", precision="bfloat16")

        return largest_difference(losses(True), losses(False))

    def training(self, given: Epochs) -> list[Finding]:
        """An epoch of hard labels in each way by the project's loop, once it runs steadily, and by the bare loop; with
        unlabelled texts beside the rows, as graphs and kernel by kernel."""
        shape, precision, batch_size, epochs, ways, beside = given
        model, train = self.model(shape), self.train
        start = {name: value.clone() for name, value in model.state_dict().items()}
        batches = epoch_batches(train.costs, batch_size, seed_of(0, 0, 0))
        rows = bare_loop.split_rows(train.examples.tokens.values, train.examples.tokens.offsets)
        steps = len(batches)

        def ours(way: Way) -> float:
            model.load_state_dict(start)
            watch = StepWatch(self.device, len(train), len(train) * (epochs - 1))
            setup = self.setup(beside=beside, epochs=epochs, batch_size=batch_size, precision=precision, **WAYS[way])
            training = Training(model, setup, device_worker(self.device, watch))
            with suppress(LastStepDone):
                training.run()
            training.step.close()
            model.zero_grad(set_to_none=True)
            return (watch.wall - watch.began) * steps / (steps - 1)

        def bare() -> float:
            model.load_state_dict(start)
            begun = time.perf_counter()
            bare_gpu.epoch(model, rows, train.labels, batches, train.examples.pad, self.device, precision)
            return time.perf_counter() - begun

        flops = 6 * parameters(model) * int(train.costs.sum())
        what = f"step of {shape}, {precision}, batch {batch_size}"
        if beside:
            captured, kernels = (partial(ours, way) for way in ("graphs", "kernels"))
            what, graphs = f"{what}, a text beside each row,", {"graphs": captured}
            return self._compared(what, graphs, kernels, 2 * flops, len(train), steps, "kernel by kernel")
        return self._compared(what, {way: partial(ours, way) for way in ways}, bare, flops, len(train), steps)

    def dump(self, shape: Shape) -> list[Finding]:
        """The teach stage in bfloat16, writing included, and a forward that brings pooled states to the host. Its rows
        are those of several shards, since the last shard is written while nothing else is left to do."""
        whole, directory = self.corpus_of(self.scale.dump_rows, self.root / "dump"), self.root / "teacher"
        rows = distinct([read_rowset(whole, "train")])
        model: Any = self.model(shape)
        model.save_pretrained(directory)
        model.eval()
        budget = tokens_per_pass(self.device, torch.get_num_threads())
        batches = [
            start + batch
            for start, end in parts(len(rows), SHARD_ROWS)
            for batch in sorted_batches(rows.costs[start:end], budget)
        ]
        tensors = bare_loop.split_rows(rows.examples.tokens.values, rows.examples.tokens.offsets)

        def ours() -> float:
            with tempfile.TemporaryDirectory(dir=self.root) as out:
                on = DumpOn(self.device)
                teach(TeachSpec(compute="bfloat16"), {"corpus": whole, "model": directory}, Path(out), on)
            return on.seconds

        def bare() -> float:
            model.to(self.device)
            synchronize(self.device)
            begun = time.perf_counter()
            bare_gpu.forward(model, tensors, batches, rows.examples.pad, self.device)
            seconds = time.perf_counter() - begun
            model.cpu()
            return seconds

        flops = 2 * parameters(model) * int(rows.costs.sum())
        return self._compared(f"dump of {shape}, bfloat16", {"": ours}, bare, flops, len(rows), 0)

    def students(self, shape: Shape, count: int, way: Way, epochs: int) -> Finding:
        """The steps a second, in all, of ``count`` students that train at once in threads of this process, once all of
        them run steadily."""
        train, start, failed = self.train, threading.Barrier(count), list[BaseException]()
        rows = len(train) * (epochs - 1)
        watches = [StepWatch(self.device, rows, len(train), at_begin=start.wait) for _ in range(count)]

        def one(number: int) -> None:
            try:
                setup = self.setup(f"student-{number}", epochs=epochs, precision="bfloat16", seed=number, **WAYS[way])
                training = Training(models[number], setup, device_worker(self.device, watches[number]))
                with suppress(LastStepDone):
                    training.run()
                training.step.close()
            except BaseException as error:
                failed.append(error)
                start.abort()
                raise

        models = [self.model(shape) for _ in range(count)]
        threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        steps = count * ((epochs - 1) * steps_of(len(train), 32) - 1)
        seconds = max(watch.wall for watch in watches) - min(watch.began for watch in watches)
        name = f"{count} of {shape} at once, bfloat16, batch 32, {way}"
        return Finding(name, summary([steps / seconds]), unit="steps/s in all", once=True)

    def _compared(
        self,
        what: str,
        ours: Mapping[Any, Callable[[], float]],
        bare: Callable[[], float],
        flops: int,
        rows: int,
        steps: int,
        base: str = "bare",
    ) -> list[Finding]:
        """All functions take turns and return seconds; ``flops``, ``rows`` and ``steps`` are what one call of any does.
        Returns the ratio of each of ``ours`` to ``bare``, which the lines call ``base``."""
        memory: dict[str, int] = {}

        def side(name: str, run: Callable[[], float]) -> Callable[[], Cost]:
            def measure() -> Cost:
                forget_memory(self.device)
                seconds = run()
                memory[name] = most_memory(self.device)
                return Cost(seconds)

            return measure

        sides = {name: side(name, run) for name, run in {**ours, base: bare}.items()}
        turns = interleaved(sides, self.scale.turns)
        other, found = statistics.median(walls(turns, base)), []
        for name in ours:
            own = statistics.median(walls(turns, name))
            note = f"rows/s: {rows / own:,.0f}, {base} {rows / other:,.0f}; {flops / own / self.peak:.1%} of the peak"
            if steps:
                note = f"{own / steps * 1e3:.2f} ms, {base} {other / steps * 1e3:.2f}; {note}"
            if self.device != "cpu":
                note += f"; memory: {memory[name] / 2**30:.2f} GiB, {base} {memory[base] / 2**30:.2f} GiB"
            found.append(
                Finding(f"{what} {name}".strip() + f" / {base}", summary(ratios(turns, name, base)), note=note)
            )
        return found


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest |a - b| / |b| of two sequences, place by place."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))
