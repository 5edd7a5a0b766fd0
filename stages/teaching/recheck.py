"""Compare some rows of a store with what its teacher computes for them again."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import read_store
from stages.outputs.parquet import read_keys
from stages.outputs.quantization import dequantise
from stages.outputs.reuse import read_rows
from stages.teaching.job import TeachJob

TIER = {"float32": 0.0, "float16": 1e-3, "int8": 5e-3}
COMPUTE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}
"""Largest differences that rounding explains, as shares of the column's largest value: by the number type on disk, and
by the type that the teacher computes in, since another machine may compute in another order."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference of a column over the sampled rows, and the largest value there."""

    column: str
    largest: float
    value: float
    row_key: bytes

    def within(self, job: TeachJob) -> bool:
        """Whether rounding explains the difference."""
        return self.largest <= tolerance(job) * max(self.value, 1e-6)


def tolerance(job: TeachJob) -> float:
    """The largest difference that rounding explains, as a share of the column's largest value."""
    return TIER[job.spec.precision] + COMPUTE[job.spec.compute]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Rows of one shard that are to be compared."""

    shard: int
    row_keys: tuple[bytes, ...]


def differences(job: TeachJob, count: int, on: On, seed: int = 0) -> list[Difference]:
    """Compute ``count`` rows (all, if there are fewer) of the store in ``job.out`` again. Returns one difference a
    column."""
    samples = sampled(job.out, count, seed)
    on.expect(sum(len(sample.row_keys) for sample in samples), "rows")
    largest: dict[str, Difference] = {}
    for _, found in on.map(open_sampler, job, samples):
        for difference in found:
            other = largest.get(difference.column, difference)
            worst = max(other, difference, key=lambda each: each.largest)
            value = max(other.value, difference.value)
            largest[difference.column] = Difference(worst.column, worst.largest, value, worst.row_key)
    return list(largest.values())


def sampled(directory: Path, count: int, seed: int) -> list[Sampled]:
    """``count`` rows (all, if there are fewer) drawn from all shards of a store, by shard."""
    store = read_store(directory)
    rows = sorted(random.Random(seed).sample(range(store.rows), min(count, store.rows)))
    found, start = [], 0
    for shard in store.shards:
        keys = read_keys(directory / shard.name)
        own = tuple(keys[row - start].tobytes() for row in rows if start <= row < start + len(keys))
        if own:
            found.append(Sampled(shard.number, own))
        start += len(keys)
    return found


def open_sampler(job: TeachJob, worker: Worker) -> Callable[[Sampled], list[Difference]]:
    """Load the teacher once a worker; return what compares rows of a shard."""
    from stages.teaching.worker import TeacherWorker

    teacher = TeacherWorker(job, worker)
    places = {key: row for row, key in enumerate(teacher.rows.row_keys)}

    def compare(sample: Sampled) -> list[Difference]:
        rows = np.array([places[key] for key in sample.row_keys], np.int64)
        heads, states = teacher.compute(rows).finished(sample.row_keys)
        stored = read_rows(job.out, sample.shard, job.layout, job.layout, sample.row_keys)
        scales, values = stored[2] or {}, dict(stored[1])
        found = {name: dequantise(codes, scales[name]) if scales else codes for name, codes in values.items()}
        if job.layout.has_logits:
            states, found = {"logits": _vectors(heads), **states}, {"logits": _vectors(stored[0]), **found}
        return _compared(states, found, sample.row_keys)

    return compare


def _vectors(logits: np.ndarray | EntryLogits) -> np.ndarray:
    """Logits as a matrix, a row for each row of the store or for each entry."""
    return logits.values if isinstance(logits, EntryLogits) else logits


def _compared(
    computed: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray], row_keys: tuple[bytes, ...]
) -> list[Difference]:
    found = []
    for column, values in computed.items():
        largest = np.abs(values.astype(np.float32) - stored[column].astype(np.float32)).reshape(len(values), -1).max(1)
        worst = int(largest.argmax())
        # Where positions or entries are kept, ``worst`` counts these; the row of one is not reported.
        key = row_keys[worst] if len(values) == len(row_keys) else b""
        found.append(Difference(column, float(largest[worst]), float(np.abs(values).max()), key))
    return found
