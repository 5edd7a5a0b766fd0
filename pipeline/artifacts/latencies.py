"""What ``stillhouse latency`` has measured, kept in the storage beside the models: ``.latency/<model>/<digest>.json``.

A measurement is no artifact: it has no key, and no result depends on it. There is one for each model, runtime, batch
size, number of threads and machine; a later one takes the place of an earlier one.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from posixpath import basename, dirname

from pipeline.artifacts.record import record_name, stages_of
from pipeline.graph.nodes import artifact_key
from pipeline.storage import Storage

LATENCIES = ".latency"
RUNTIMES = ("PyTorch", "ONNX", "ONNX int8")
"""The kinds of ``Classifier``, in the order in which one stands for a model."""


@dataclass(frozen=True, slots=True)
class MeasuredLatency:
    """The size and speed of a model on the CPU of ``host``. ``model`` is its identity, as in keys; that of an export is
    the identity of the model that was exported. ``external``: no stage of the storage made it. ``p50_ms`` and
    ``p95_ms`` are for a batch of ``batch`` rows, with ``tokens`` tokens a row on average; ``speedup`` is how many times
    faster than its teacher it is by the clock, and ``cpu_speedup`` by processor time, medians over turns that both
    took; None where the teacher was not measured with it. ``measured`` is the time, as in records."""

    model: str
    external: bool
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
    speedup: float | None
    cpu_speedup: float | None
    host: str
    processor: str
    cores: int
    measured: str

    @property
    def conditions(self) -> tuple[int, int, str]:
        """Batch size, threads and processor: figures under other ones cannot be compared."""
        return self.batch, self.threads, self.processor


def headline(found: Sequence[MeasuredLatency]) -> MeasuredLatency | None:
    """The measurement that stands for a model where there is room for one: of the smallest batch, the fewest threads,
    the model itself before an export, and the last of these; None where there is none."""
    latest = sorted(found, key=lambda one: one.measured, reverse=True)
    return min(latest, key=lambda one: (one.batch, one.threads, _rank(one.runtime)), default=None)


def _rank(runtime: str) -> int:
    return RUNTIMES.index(runtime) if runtime in RUNTIMES else len(RUNTIMES)


def note_latencies(found: Sequence[MeasuredLatency], storage: Storage) -> None:
    """Write measurements down. Raises OSError where the storage cannot be written."""
    for one in found:
        about = json.dumps([one.runtime, one.batch, one.threads, one.host, one.processor])
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        storage.write(f"{_folder(one.model)}/{digest}.json", json.dumps(asdict(one), indent=1) + "\n")


def read_latencies(storage: Storage, models: Collection[str]) -> Mapping[str, tuple[MeasuredLatency, ...]]:
    """Identity -> the measurements of each of these models that has some, by batch, threads and runtime."""
    wanted = {_folder(model) for model in models}
    names = [name for name in storage.walk(LATENCIES) if dirname(name) in wanted]
    found: dict[str, list[MeasuredLatency]] = {}
    for text in storage.read_many(names).values():
        one = _parsed(text)
        if one is not None and one.model in models:
            found.setdefault(one.model, []).append(one)
    return {model: tuple(sorted(known, key=_order)) for model, known in found.items()}


def _order(one: MeasuredLatency) -> tuple[object, ...]:
    return one.batch, one.threads, _rank(one.runtime), one.processor, one.host


def _folder(model: str) -> str:
    return f"{LATENCIES}/{model.replace('/', '-')}"


def _parsed(text: str) -> MeasuredLatency | None:
    """None for a document that is damaged, or of a later version."""
    try:
        document = json.loads(text)
        one = MeasuredLatency(**{field.name: document[field.name] for field in fields(MeasuredLatency)})
        numbers = (one.bytes, one.parameters, one.batch, one.threads, one.p50_ms, one.p95_ms, one.rows_per_second)
        return one if all(isinstance(number, int | float) for number in numbers) else None
    except (ValueError, TypeError, KeyError):
        return None


def dangling_latencies(storage: Storage) -> list[str]:
    """The documents of models that a stage of this storage made and whose record is gone, sorted."""
    texts = storage.read_many(list(storage.walk(LATENCIES)))
    parsed = {name: one for name, text in texts.items() if (one := _parsed(text)) is not None and not one.external}
    keys = {artifact_key(one.model) for one in parsed.values()}
    records = storage.read_many([record_name(stage, key) for stage in stages_of(storage) for key in keys])
    known = {basename(dirname(name)) for name in records}
    return sorted(name for name, one in parsed.items() if artifact_key(one.model) not in known)
