"""Measured costs of work on this machine, kept in the storage by what was measured: a model's shape, the texts, the
settings that decide the time of a step, and the machine.

A document ``.timings/<digest>.json`` has the topic and its figures. ``stages/timing`` measures them,
``pipeline/plan/probe.py`` writes them, and ``pipeline/plan/extrapolate.py`` estimates the time of nodes from them.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cluster.resources import Resources
from pipeline.graph.fingerprint import Json, canonical, plain, sha256
from pipeline.graph.nodes import NO_INPUT, Edge, ExternalInput, Node
from pipeline.plan.estimate import MACHINE
from pipeline.storage import Storage
from stages.specs.corpus import CorpusSpec
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import DistilSpec, Pretrained, Start, Train

FOLDER = ".timings"
FORMAT = 1

Figures = Mapping[str, float]
"""Name -> seconds, as in ``stages.timing.job``."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What figures were measured of: ``what`` in words, and all that they depend on."""

    what: str
    of: Json

    @property
    def name(self) -> str:
        """The name of its document in a storage."""
        return f"{FOLDER}/{sha256(canonical([FORMAT, self.what, self.of]))}.json"


@dataclass
class Measurements:
    """The measurements in a storage. Each is read once."""

    storage: Storage
    known: dict[str, Figures | None] = field(default_factory=dict)

    def figures(self, topic: Topic) -> Figures | None:
        """The figures of a topic; None where it was not measured, or its document is damaged."""
        if topic.name not in self.known:
            self.known[topic.name] = None
            text = self.storage.read(topic.name)
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                figures = json.loads(text)["figures"] if text else None
                self.known[topic.name] = {name: float(value) for name, value in figures.items()} if figures else None
        return self.known[topic.name]

    def keep(self, topic: Topic, figures: Figures) -> None:
        """Keep the figures of a topic in the storage, in place of earlier ones."""
        self.known[topic.name] = dict(figures)
        document = {"format": FORMAT, "what": topic.what, "of": topic.of, "figures": dict(figures)}
        self.storage.write(topic.name, json.dumps(document, indent=1, sort_keys=True) + "\n")


# --- topics -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelOrigin:
    """The external model that a model comes from, and the changes of its layers since, in their order."""

    model: ExternalInput
    starts: tuple[Start, ...]

    @property
    def label(self) -> str:
        """The name of the external model, and its changes."""
        changes = [start.kind for start in self.starts]
        return " ".join([self.model.about.rsplit("/", 1)[-1], *changes])


def origin(given: Edge | ExternalInput) -> ModelOrigin:
    """The origin of the model that is an input of a node."""
    if isinstance(given, ExternalInput):
        return ModelOrigin(given, ())
    return trained_origin(given.source)


def trained_origin(node: Node) -> ModelOrigin:
    """The origin of the model that a training makes. A masked language model has the shape of its encoder."""
    assert isinstance(node.spec, DistilSpec | PretrainSpec)
    before = origin(node.inputs.get("start", NO_INPUT))
    if isinstance(node.spec.start, Pretrained):
        return before
    return ModelOrigin(before.model, (*before.starts, node.spec.start))


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of measurements on one machine. ``machine``: see ``provenance.hardware``."""

    machine: Mapping[str, Json]

    def place(self, inline: bool) -> Topic:
        """Starting and ending a run, and its workers."""
        return self._topic("a run in one process" if inline else "a run on a Ray of its own", [])

    def corpus(self, corpus: Node) -> Topic:
        """Reading and tokenising a task's rows."""
        return self._topic("reading and tokenising rows", [texts_of(corpus)])

    def model(self, origin: ModelOrigin, corpus: Node, resources: Resources) -> Topic:
        """Forward passes of a model over a task's texts, loading and saving it."""
        return self._topic("a model's forward pass", [*_shape(origin), texts_of(corpus), *_share(resources)])

    def training(self, origin: ModelOrigin, corpus: Node, train: Train, resources: Resources) -> Topic:
        """Optimizer steps of a training on a task's texts."""
        settings: list[Json] = [train.batch_size, train.micro_batch, train.precision, train.compile]
        return self._topic("a training's steps", [*_shape(origin), texts_of(corpus), settings, *_share(resources)])

    def bank(self, bank: Node, embeddings: Node, resources: Resources) -> Topic:
        """Cleaning a bank's texts, embedding them and searching them."""
        identities: dict[str, Json] = {**bank.input_keys, "encoder": embeddings.input_keys.get("encoder")}
        of: list[Json] = [plain(bank.spec), plain(embeddings.spec), identities]
        return self._topic("texts of a bank", [*of, *_share(resources)])

    def _topic(self, what: str, of: list[Json]) -> Topic:
        return Topic(what, {"machine": {name: self.machine.get(name) for name in MACHINE}, "of": of})


def texts_of(corpus: Node) -> Json:
    """What the length of a corpus's rows depends on: the data, the tokenizer, and where texts are cut."""
    assert isinstance(corpus.spec, CorpusSpec)
    spec = corpus.spec
    return [dict(corpus.input_keys), plain_source(spec), spec.max_length, list(spec.task.text)]


def plain_source(spec: CorpusSpec) -> Json:
    """The source of a corpus in JSON's own types."""
    source: dict[str, Json] = spec.source.model_dump(mode="json")
    return source


def _shape(origin: ModelOrigin) -> list[Json]:
    starts: list[Json] = []
    for start in origin.starts:
        one: dict[str, Json] = start.model_dump(mode="json")
        # Which layers are kept does not matter, only how many.
        starts.append(len(one["layers"]) if isinstance(one.get("layers"), list) else one)  # type: ignore[arg-type]
    return [origin.model.identity, starts]


def _share(resources: Resources) -> list[Json]:
    return [resources.workers, resources.cpus_per_worker, resources.gpus_per_worker]
