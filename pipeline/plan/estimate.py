"""How long a plan's steps will take, from what like steps took on like hardware; where there was none, nothing.

Like means: the same stage, processor, cores and GPUs, workers and threads as far as the recipe says; models of one
shape, by where they start (weights do not change the time); texts cut at the same length. Time grows with rows, and for
training with rows x epochs; what a run of ``distil`` does besides training is taken as it was.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pipeline.artifacts.record import Record, parsed, recorded
from pipeline.errors import RequestError
from pipeline.graph.fingerprint import Json, canonical, plain
from pipeline.graph.nodes import Node, artifact_key
from pipeline.plan.planner import Plan, Step
from pipeline.recipe import ResourceBlock
from pipeline.storage import Storage
from stages.specs.input_names import MEMBERS, in_order
from stages.specs.student import DistilSpec

MACHINE = ("machine", "processor", "cores", "gpus")
LATEST = 31
"""Records of one kind that are asked: enough for a median."""


@dataclass(frozen=True, slots=True)
class StageInstance:
    """What has been or will be made, as far as time depends on it. ``inputs`` are keys of artifacts."""

    stage: str
    spec: Json
    inputs: Mapping[str, str]


def estimate(
    plan: Plan, storage: Storage, machine: Mapping[str, Json], resources: Mapping[str, ResourceBlock]
) -> dict[str, float]:
    """Seconds by the key of each step that is to be built, for those that like records tell of. Reads no record
    where nothing is built."""
    return DurationEstimator(plan, machine, resources, read_all(storage)).seconds() if plan.builds else {}


class DurationEstimator:
    """What like records say of a plan's steps; it learns from records that come while the plan is carried out."""

    def __init__(
        self,
        plan: Plan,
        machine: Mapping[str, Json],
        resources: Mapping[str, ResourceBlock],
        records: Iterable[Record] = (),
    ) -> None:
        records = list(records)
        made = {record.key: _made(record.stage, record.spec, record.inputs) for record in records}
        made |= {step.node.key: _planned(step.node) for step in plan.steps}
        self._machine = machine
        self._resources = resources
        self._kinds = {key: likeness(what, made) for key, what in made.items()}
        self._steps: dict[str, list[Step]] = {}
        for step in plan.builds:
            self._steps.setdefault(self._kinds[step.node.key], []).append(step)
        self._known: dict[str, list[Record]] = {}
        self._found: dict[str, float] = {}
        self._news: set[str] = set()
        for record in sorted(records, key=lambda one: one.committed):
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in a record of the storage, or of a step of the plan."""
        # Rows that were carried over from an earlier store took no time of the teacher's.
        if same_machine(record.hardware, self._machine) and not record.facts.get("carried"):
            kind = self._kinds[record.key]
            self._known.setdefault(kind, []).append(record)
            self._news.add(kind)

    def seconds(self) -> dict[str, float]:
        """Seconds by the key of each step that is to be built, for those that like records tell of: the median of the
        latest."""
        for kind in self._news:
            steps, known = self._steps.get(kind, ()), self._known[kind]
            blocks = {step.node.role: self._resources[step.node.role] for step in steps}
            like = {
                role: [record for record in known if _same_share(record, block)][-LATEST:]
                for role, block in blocks.items()
            }
            for step in steps:
                times = [_scaled(record, step.node, step.rows.value or 0) for record in like[step.node.role]]
                if step.rows.value and times:
                    self._found[step.node.key] = statistics.median(times)
        self._news.clear()
        return dict(self._found)


def read_all(storage: Storage) -> Iterator[Record]:
    """Every record of a storage that this version reads."""
    for name, text in recorded(storage).items():
        # Another says nothing of time. A plan that needs it has refused it by now; ``gc`` lists any other.
        with suppress(RequestError):
            yield parsed(text, storage.where(name))


def same_machine(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    return all((one.get(name) or None) == (other.get(name) or None) for name in MACHINE)


def _same_share(record: Record, block: ResourceBlock) -> bool:
    """Whether it had the workers and threads that the recipe asks for, where it does."""
    return block.workers in (None, record.workers) and block.cpus_per_worker in (None, record.threads)


def _planned(node: Node) -> StageInstance:
    return _made(node.spec.stage, plain(node.spec), node.input_keys)


def _made(stage: str, spec: Json, inputs: Mapping[str, str]) -> StageInstance:
    return StageInstance(stage, spec, {name: artifact_key(known_by) for name, known_by in inputs.items()})


def likeness(what: StageInstance, made: Mapping[str, StageInstance]) -> str:
    """Equal for what takes equal time a row on equal hardware."""
    corpus, model = made.get(what.inputs.get("corpus", "")), what.inputs.get("model", "")
    length = _at(corpus.spec, "max_length") if corpus else None
    match what.stage:
        case "corpus":
            parts: list[Json] = [what.inputs.get("tokenizer"), _at(what.spec, "max_length")]
        case "distil":
            train = [_at(what.spec, "train", name) for name in ("batch_size", "precision")]
            # Whatever else a method does costs the student's steps little.
            data = [_at(what.spec, "method", "data", name) for name in ("k", "keep", "every")]
            method = [data, *(_at(what.spec, "method", axis, "kind") for axis in ("data", "structure"))]
            parts = [_shape(what, made), length, train, method]
        case "bank" | "index" | "transfer" | "sift" | "unlabelled":
            # The time of none of them depends much on what it is told.
            parts = []
        case "embed" | "rewrite":
            parts = [what.spec, what.inputs.get("encoder"), what.inputs.get("model")]
        case "neighbours":
            index = made.get(what.inputs.get("index", ""))
            parts = [what.inputs.get("encoder"), index.spec if index else None, _at(what.spec, "sides")]
        case "ensemble":
            parts = [len(in_order(MEMBERS, what.inputs))]
        case "probe":
            store = made.get(what.inputs.get("outputs", ""))
            fitted = [_at(what.spec, name) for name in ("layers", "folds")]
            parts = [_speaker(store.inputs.get("model", ""), made) if store else None, fitted]
        case _:
            kept = [_at(what.spec, name) for name in ("part", "compute")]
            parts = [_speaker(model, made), length, kept]
    return canonical([what.stage, parts])


def _speaker(model: str, made: Mapping[str, StageInstance]) -> Json:
    """What the model of an input is apart from its weights."""
    return _shape(made[model], made) if model in made else model


def _shape(what: StageInstance, made: Mapping[str, StageInstance]) -> Json:
    """What a model is apart from its weights: the model from outside it began as, and each change to its layers."""
    start, source = _at(what.spec, "start"), what.inputs.get("start", "")
    base = _shape(made[source], made) if source in made else source
    return base if start == {"kind": "pretrained"} else [start, base]


def _at(spec: Json, *names: str) -> Json:
    """What stands at a place of a spec; None where it has no such place."""
    for name in names:
        spec = spec.get(name) if isinstance(spec, Mapping) else None
    return spec


def _scaled(record: Record, node: Node, rows: int) -> float:
    """Seconds for ``rows`` rows at the pace of a like record."""
    share = rows / max(1, record.rows)
    if not isinstance(node.spec, DistilSpec):
        return record.seconds * share
    training = float(record.facts.get("train_seconds", record.seconds))
    epochs = _at(record.spec, "train", "epochs")
    assert isinstance(epochs, int)
    return record.seconds - training + training * share * node.spec.train.epochs / epochs


def approximate_time(seconds: float) -> str:
    """``~12 s``, ``~4 min``, ``~2 h 10 min``."""
    if seconds < 59.5:
        return f"~{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"~{hours}{minutes % 60} min"


def total_text(plan: Plan, seconds: Mapping[str, float]) -> str:
    """The sum over what is to be built."""
    unknown = len(plan.builds) - len(seconds)
    if not seconds:
        return "time unknown: no record on like hardware"
    rest = f", and {unknown} more with no record on like hardware" if unknown else ""
    return f"{approximate_time(sum(seconds.values()))} if built one after another{rest}"
