"""Measures how long finished models take for a batch, all of them in interleaved turns on the same texts.

Ratios are taken within a turn, in which every model has the same machine; their median is what is reported, so that a
machine that is busy for a while changes them little.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.corpus.examples.token_rows import TokenRows, encode
from stages.corpus.tokenizer import load_tokenizer
from stages.deployment.classifier import Classifier, open_classifier
from stages.deployment.description import ModelDescription
from stages.deployment.export import folder_bytes
from stages.deployment.rows import TextRow

TURNS = 40
"""Turns in which every model computes one batch of each size."""
LEAST_TURNS = 7
MOST_SECONDS = 60.0
"""After so many seconds there are no further turns, if ``LEAST_TURNS`` are done."""
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """A model to measure: its name in the table, its directory, and what it is given."""

    name: str
    directory: Path
    description: ModelDescription


@dataclass(frozen=True, slots=True)
class Latency:
    """The times of one model for batches of ``batch`` rows: the median and the 95th percentile in milliseconds, and
    ``rows_per_second`` at the median. ``cpu_ms`` is the median of the processor time that all threads together took; on
    a busy machine the time by the clock is much longer. ``speedup`` is how many times faster it is than the first model
    by the clock, ``cpu_speedup`` by processor time, medians over turns. ``bytes`` are those of weights and
    tokenizer."""

    model: str
    runtime: str
    bytes: int
    parameters: int
    batch: int
    threads: int
    tokens: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    rows_per_second: float
    speedup: float
    cpu_speedup: float

    @property
    def waited(self) -> float:
        """How many times longer a batch took by the clock than its threads computed: about 1 on a quiet machine."""
        return self.p50_ms / max(self.cpu_ms / self.threads, 1e-3)


@dataclass(frozen=True, slots=True)
class BatchTime:
    """The seconds of one batch: by the clock, and of the processor in all threads."""

    clock: float
    processor: float


def measure(
    models: Sequence[MeasuredModel], texts: Sequence[TextRow], batches: Sequence[int], threads: int
) -> list[Latency]:
    """The latency of each model for each batch size, on the CPU with so many threads. ``texts`` are at least as many
    rows as the largest batch; those of a turn are drawn from them by its number, the same for all models. Raises
    ValueError for a model that does not load."""
    opened = [open_classifier(model.directory, "cpu", threads) for model in models]
    rows = [encode(load_tokenizer(model.directory), texts, model.description.max_length) for model in models]
    times: dict[tuple[int, int], list[BatchTime]] = {}
    began = time.perf_counter()
    for turn in range(-WARM_UP, TURNS):
        if turn >= LEAST_TURNS and time.perf_counter() - began > MOST_SECONDS:
            break
        order = range(len(models)) if turn % 2 else range(len(models) - 1, -1, -1)
        for batch in batches:
            chosen = np.random.default_rng(turn + WARM_UP).choice(len(texts), batch, replace=False).astype(np.int64)
            for number in order:
                elapsed = _time(opened[number], rows[number], chosen)
                if turn >= 0:
                    times.setdefault((number, batch), []).append(elapsed)
    return [
        _latency(model, opened[number], rows[number], batch, threads, times[number, batch], times[0, batch])
        for batch in batches
        for number, model in enumerate(models)
    ]


def _time(classifier: Classifier, rows: TokenRows, chosen: npt.NDArray[np.int64]) -> BatchTime:
    inputs = rows.collate(chosen)
    clock, processor = time.perf_counter(), time.process_time()
    classifier.logits(inputs)
    return BatchTime(time.perf_counter() - clock, time.process_time() - processor)


def _latency(
    model: MeasuredModel,
    classifier: Classifier,
    rows: TokenRows,
    batch: int,
    threads: int,
    times: Sequence[BatchTime],
    baseline: Sequence[BatchTime],
) -> Latency:
    seconds = [one.clock for one in times]
    middle, pairs = statistics.median(seconds), list(zip(baseline, times, strict=True))
    return Latency(
        model=model.name,
        runtime=classifier.kind,
        bytes=folder_bytes(model.directory),
        parameters=classifier.parameters,
        batch=batch,
        threads=threads,
        tokens=round(float(rows.costs.mean()), 1),
        p50_ms=round(1000 * middle, 3),
        p95_ms=round(1000 * float(np.quantile(seconds, 0.95)), 3),
        cpu_ms=round(1000 * statistics.median(one.processor for one in times), 3),
        rows_per_second=round(batch / middle, 1),
        speedup=round(statistics.median(first.clock / own.clock for first, own in pairs), 3),
        cpu_speedup=round(statistics.median(first.processor / own.processor for first, own in pairs), 3),
    )
