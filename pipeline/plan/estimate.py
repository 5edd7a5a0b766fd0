"""How long a plan's steps will take: estimated from the records of comparable steps, where there are any.

Comparable are records of the same stage on the same processor, number of cores and GPUs, with the workers and threads
that the recipe sets; with models of the same shape (weights do not change the time) and texts cut at the same length.
Time grows with rows, and for trainings with the rows of all epochs or steps; what these do besides training takes
constant time.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.artifacts.record import Record, parsed_records
from pipeline.graph.fingerprint import Json, canonical, plain
from pipeline.graph.nodes import Node, artifact_key
from pipeline.plan.planner import Plan, Step
from pipeline.recipe import ResourceBlock
from pipeline.storage import Storage
from stages.specs.input_names import MEMBERS, in_order
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import DistilSpec

MACHINE = ("machine", "processor", "cores", "gpus")
"""Fields of a record's hardware that must agree."""
MAX_RECORDS = 31
"""Comparable records that are used, the latest ones: enough for a median."""


@dataclass(frozen=True, slots=True)
class StageInstance:
    """An artifact, built or planned, as far as the time to build it depends on it. ``inputs``: name -> artifact key."""

    stage: str
    spec: Json
    inputs: Mapping[str, str]


def estimate(
    plan: Plan, storage: Storage, machine: Mapping[str, Json], resources: Mapping[str, ResourceBlock]
) -> dict[str, float]:
    """Key -> estimated seconds of each step that is to be built and has comparable records. If nothing is to be built,
    no record is read."""
    return DurationEstimator(plan, machine, resources, read_all(storage)).seconds() if plan.builds else {}


class DurationEstimator:
    """Estimates the seconds of a plan's steps from records; more can be added while the plan runs."""

    def __init__(
        self,
        plan: Plan,
        machine: Mapping[str, Json],
        resources: Mapping[str, ResourceBlock],
        records: Iterable[Record] = (),
        probed: Mapping[str, float] | None = None,
    ) -> None:
        """``probed``: key -> seconds as a probe measured them, for steps without comparable records."""
        records = list(records)
        instances = {record.key: _instance(record.stage, record.spec, record.inputs) for record in records}
        instances |= {step.node.key: _instance_of(step.node) for step in plan.steps}
        self._machine = machine
        self._resources = resources
        self._groups = {key: comparison_key(what, instances) for key, what in instances.items()}
        self._steps: dict[str, list[Step]] = {}
        for step in plan.builds:
            self._steps.setdefault(self._groups[step.node.key], []).append(step)
        self._known: dict[str, list[Record]] = {}
        self._seconds: dict[str, float] = {}
        self._probed = dict(probed or {})
        self._updated: set[str] = set()
        for record in sorted(records, key=lambda one: one.committed):
            self.add(record)

    def add(self, record: Record) -> None:
        """Add a record of the storage, or of a step of the plan."""
        # Not if rows were copied from an earlier store, as that takes less time than computing them.
        if same_machine(record.hardware, self._machine) and not record.facts.get("carried"):
            group = self._groups[record.key]
            self._known.setdefault(group, []).append(record)
            self._updated.add(group)

    def seconds(self) -> dict[str, float]:
        """Key -> estimated seconds of each step that is to be built: the median of comparable records; where there are
        none, as a probe measured it."""
        for group in self._updated:
            steps, known = self._steps.get(group, ()), self._known[group]
            blocks = {step.node.role: self._resources[step.node.role] for step in steps}
            comparable = {
                role: [record for record in known if _same_workers(record, block)][-MAX_RECORDS:]
                for role, block in blocks.items()
            }
            for step in steps:
                times = [_scaled(record, step.node, step.rows.value or 0) for record in comparable[step.node.role]]
                if step.rows.value and times:
                    self._seconds[step.node.key] = statistics.median(times)
        self._updated.clear()
        return self._probed | self._seconds


def read_all(storage: Storage) -> Iterator[Record]:
    """Every record of a storage that this version can read."""
    # Damaged records count as absent. If the plan needed one of a newer format, it would have been refused by now.
    yield from (record for record in parsed_records(storage).values() if isinstance(record, Record))


def same_machine(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Whether two descriptions of hardware agree in the fields of ``MACHINE``."""
    return all((one.get(name) or None) == (other.get(name) or None) for name in MACHINE)


def _same_workers(record: Record, block: ResourceBlock) -> bool:
    """Whether a record has the workers and threads that the recipe sets, if it sets them."""
    return block.workers in (None, record.workers) and block.cpus_per_worker in (None, record.threads)


def _instance_of(node: Node) -> StageInstance:
    return _instance(node.spec.stage, plain(node.spec), node.input_keys)


def _instance(stage: str, spec: Json, inputs: Mapping[str, str]) -> StageInstance:
    return StageInstance(stage, spec, {name: artifact_key(known_by) for name, known_by in inputs.items()})


def comparison_key(what: StageInstance, instances: Mapping[str, StageInstance]) -> str:
    """A text that is equal for artifacts that take the same time per row on the same hardware."""
    corpus, model = instances.get(what.inputs.get("corpus", "")), what.inputs.get("model", "")
    length = _field(corpus.spec, "max_length") if corpus else None
    match what.stage:
        case "corpus" | "texts":
            parts: list[Json] = [what.inputs.get("tokenizer"), _field(what.spec, "max_length")]
        case "distil":
            train = [_field(what.spec, "train", name) for name in ("batch_size", "precision")]
            # The other settings of a method hardly change the time of a step.
            data = [_field(what.spec, "method", "data", name) for name in ("k", "keep", "every", "draw")]
            method = [data, *(_field(what.spec, "method", axis, "kind") for axis in ("data", "structure"))]
            parts = [_shape(what, instances), length, train, method]
        case "pretrain":
            train = [_field(what.spec, name) for name in ("batch_size", "precision", "max_length")]
            share = _field(what.spec, "masking", "share")
            teacher = _model_shape(what.inputs.get("teacher", ""), instances)
            states = _field(what.spec, "states", "kind")
            parts = [_shape(what, instances), train, share, "bank" in what.inputs, teacher, states]
        case "bank" | "index" | "transfer" | "sift" | "unlabelled":
            # Their time per row hardly depends on their settings.
            parts = []
        case "embed" | "rewrite":
            parts = [what.spec, what.inputs.get("encoder"), what.inputs.get("model")]
        case "neighbours":
            index = instances.get(what.inputs.get("index", ""))
            parts = [what.inputs.get("encoder"), index.spec if index else None, _field(what.spec, "sides")]
        case "ensemble":
            parts = [len(in_order(MEMBERS, what.inputs))]
        case "probe":
            store = instances.get(what.inputs.get("outputs", ""))
            fitted = [_field(what.spec, name) for name in ("layers", "folds")]
            parts = [_model_shape(store.inputs.get("model", ""), instances) if store else None, fitted]
        case _:
            kept = [_field(what.spec, name) for name in ("part", "compute")]
            parts = [_model_shape(model, instances), length, kept]
    return canonical([what.stage, parts])


def _model_shape(model: str, instances: Mapping[str, StageInstance]) -> Json:
    """The shape of the model with key or identity ``model``: see ``_shape``; the identity itself if it is external."""
    return _shape(instances[model], instances) if model in instances else model


def _shape(what: StageInstance, instances: Mapping[str, StageInstance]) -> Json:
    """What determines a trained model's shape: the external model from which it started, and each change of layers."""
    start, source = _field(what.spec, "start"), what.inputs.get("start", "")
    base = _shape(instances[source], instances) if source in instances else source
    return base if start == {"kind": "pretrained"} else [start, base]


def _field(spec: Json, *names: str) -> Json:
    """The value at a path of field names in a spec; None if there is none."""
    for name in names:
        spec = spec.get(name) if isinstance(spec, Mapping) else None
    return spec


def _scaled(record: Record, node: Node, rows: int) -> float:
    """Seconds for ``rows`` rows with all of the stage's workers, scaled from a comparable record."""
    share, seconds = rows / max(1, record.rows), record.full_seconds or record.seconds
    training = float(record.facts.get("train_seconds", seconds))
    if isinstance(node.spec, DistilSpec):
        epochs = _field(record.spec, "train", "epochs")
        assert isinstance(epochs, int)
        return seconds - training + training * share * node.spec.train.epochs / epochs
    if isinstance(node.spec, PretrainSpec):
        read = float(record.facts.get("texts_read", record.rows))
        return (seconds - training) * share + training * node.spec.texts_read(rows) / max(1.0, read)
    return seconds * share


def approximate_time(seconds: float) -> str:
    """``~12 s``, ``~4 min``, ``~2 h 10 min``."""
    if seconds < 59.5:
        return f"~{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"~{hours}{minutes % 60} min"
