"""What ``benchmarks/gpu_scene.py`` runs and measures a device with: workers of this process that use it, and its time,
memory and peak."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from benchmarks.scene import Watch
from cluster.inline import InlineOn, InlineWorker
from cluster.resources import Resources
from stages.corpus.batches import Rows
from stages.teaching.job import TeachJob
from stages.teaching.worker import TeacherWorker
from stages.training.steps.graphs import GraphedStep

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")


class LastStepDone(Exception):
    """Raised by a listener to end a training before its epoch is scored."""


class StepWatch(Watch):
    """Times the steps on ``rows`` rows that follow those on the first ``before`` rows, but for the first of them, after
    which ``at_begin`` is called; it waits for the device at both ends, and ends the training there."""

    def __init__(
        self,
        device: str,
        rows: int,
        before: int = 0,
        at_begin: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__()
        self.device, self.at_begin = device, at_begin
        self.done, self.before, self.rows, self.began = 0, before, rows, math.nan

    def advance(self, amount: float) -> None:
        self.done += int(amount)
        if math.isnan(self.began) and self.done > self.before:
            synchronize(self.device)
            self.at_begin()
            self.began = time.perf_counter()
        if self.done >= self.before + self.rows:
            synchronize(self.device)
            super().advance(amount)
            raise LastStepDone


def device_worker(device: str, watch: Watch) -> InlineWorker:
    """The one worker of this process, on ``device``, with all of torch's threads."""
    return InlineWorker(torch.get_num_threads(), watch, device)


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
        worker: Any = TeacherWorker(config, device_worker(self.device, Watch()))
        worker.model.requires_grad_(False)
        synchronize(self.device)
        start = time.perf_counter()
        results = [worker.write(item) for item in items]
        self.seconds = time.perf_counter() - start
        return iter(enumerate(results))


class NeverCaptured(GraphedStep):
    """Steps kernel by kernel, on batches that are padded and with random numbers that are drawn as those of graphs."""

    def _capture(self, *_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class RandomLogits:
    """Logits [rows, C] in the place of a store."""

    logits: np.ndarray

    def gather(self, _name: str, rows: Rows) -> np.ndarray:
        found: np.ndarray = self.logits[rows]
        return found


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
