"""The graph of artifacts: nodes and the edges between them. A graph is a value; building it runs no stage and reads no
artifact.

A ``Node`` is a spec with named inputs. Each input is another node, or an external input whose identity by content is
known. Keys follow from these alone, so that the whole plan is known before any stage runs. The teachers of a student
are edges of the graph, never fields of a spec.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipeline.graph.fingerprint import differences, key, plain
from stages.outputs.sizes import Extent
from stages.specs.base import Spec
from stages.specs.student import Head


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of rows or bytes in a plan: exact, an upper bound, an expected number ("about"), or unknown. ``until``
    completes the text "unknown until ..." and names what has to happen first."""

    value: int | None
    kind: Literal["exact", "at most", "about", "unknown"]
    until: str = ""

    @staticmethod
    def exact(value: int) -> "Quantity":
        return Quantity(value, "exact")

    @staticmethod
    def at_most(value: int) -> "Quantity":
        return Quantity(value, "at most")

    @staticmethod
    def about(value: int) -> "Quantity":
        return Quantity(value, "about")

    @staticmethod
    def unknown(until: str) -> "Quantity":
        return Quantity(None, "unknown", until)

    def times(self, factor: int) -> "Quantity":
        """This quantity multiplied by a factor that is exact."""
        return self if self.value is None else replace(self, value=self.value * factor)

    def bounded(self) -> "Quantity":
        """This quantity as an upper bound, if it is known exactly: for rows of which some may drop out."""
        return replace(self, kind="at most") if self.kind == "exact" else self


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """Rows of train in the source of a task (``given``), and what becomes of them: ``trained`` on, ``held_out`` to
    select the epoch, ``cut_off`` as the dev split, left out by ``data.train_rows`` (``not_sampled``). ``evaluated`` are
    the rows of all dev and test splits of the corpus. ``cut`` says whether any of these numbers depends on a cut, whose
    size is expected but not certain. ``given`` is None for a built corpus whose record does not tell it."""

    trained: int
    held_out: int
    cut_off: int
    evaluated: int
    given: int | None
    not_sampled: int = 0
    cut: bool = False

    @property
    def rows(self) -> int:
        """Rows of the corpus, in all splits."""
        return self.trained + self.held_out + self.evaluated

    def quantity(self, value: int) -> Quantity:
        """One of these numbers as a quantity of a plan."""
        return Quantity.about(value) if self.cut else Quantity.exact(value)


@dataclass(frozen=True, slots=True)
class ExternalInput:
    """An input that is not the artifact of a stage: a data file or a model directory. ``identity`` stands for its
    content in keys; ``about`` describes it in messages."""

    identity: str
    path: Path
    about: str


NO_INPUT = ExternalInput("", Path(), "no input")
"""The source of a model whose weights are random and that has no directory, and the tokenizer of a model that needs
none. It is left out of a node's inputs."""


@dataclass(frozen=True)
class Edge:
    """An input that is the artifact of another node, or the folder ``part`` of it; '' means the whole artifact."""

    source: "Node"
    part: str = ""


@dataclass(frozen=True, slots=True)
class ModelKind:
    """The ``model_type`` in the configuration of a model, and the kind of its classification head, or of the one that
    it gets as a classifier; None for a kind that recipes do not name."""

    architecture: str
    head: Head | None


TRAINED = 4
"""The numbers that a trained weight takes in float32: itself, its gradient, and AdamW's two means."""


@dataclass(frozen=True, slots=True)
class HeldModels:
    """The bytes of the weights of the models that a worker of a training holds: of the ``student`` that is trained, of
    ``teachers`` that run in it, and of a ``generator``."""

    student: int
    teachers: int = 0
    generator: int = 0

    @property
    def bytes(self) -> int:
        """Weights, and of the trained models also gradients and optimizer states."""
        return TRAINED * (self.student + self.generator) + self.teachers

    def describe(self) -> str:
        """The models and their bytes, in a phrase."""
        parts = [f"student {TRAINED} x {self.student:,}"]
        parts += [f"live teachers {self.teachers:,}"] if self.teachers else []
        parts += [f"generator {TRAINED} x {self.generator:,}"] if self.generator else []
        return " + ".join(parts)


@dataclass(frozen=True, slots=True)
class ReportedModel:
    """The model under which a report lists a node: the labels of its method and of its student, and its seed."""

    method: str
    student: str
    seed: int


@dataclass(frozen=True)
class ScoreGate:
    """A condition under which a model may teach: its headline ``metric`` x 100 is at least ``least`` on each of the dev
    ``splits``, as measured by ``evaluation``. ``model`` names the model in messages."""

    evaluation: "Node"
    model: str
    metric: str
    splits: tuple[str, ...]
    least: float


@dataclass(frozen=True)
class Node:
    """One artifact of the graph, which may or may not exist yet.

    ``role`` is its purpose in the recipe: ``finetune`` and ``distil`` are two roles of the same stage. ``subject`` is
    None for a node that reports do not list. ``rows`` and ``bytes`` are the expected size; ``extent``, only for a
    teacher-output store, what it holds of each row; ``splits``, only for a corpus, the expected rows of its splits.
    ``model_kind``, only for a training and for the evaluation of a single model, is that of the model. ``held``, only
    for a training or a pretraining, are the models that each of its workers holds.
    ``gate``, only for a store or a calibration, has to be met before the node or one that reads it is built; it is not
    part of any key.
    """

    name: str
    role: str
    task: str
    spec: Spec
    inputs: Mapping[str, Edge | ExternalInput]
    subject: ReportedModel | None = None
    rows: Quantity = field(default_factory=lambda: Quantity.unknown("it has run"))
    bytes: Quantity = field(default_factory=lambda: Quantity.unknown("it has run"))
    extent: Extent | None = None
    splits: SplitSizes | None = None
    gate: ScoreGate | None = None
    model_kind: ModelKind | None = None
    held: "HeldModels | None" = None

    @cached_property
    def key(self) -> str:
        """The key of the artifact, 64 hexadecimal digits."""
        return key(self.spec, self.input_keys)

    @cached_property
    def input_keys(self) -> dict[str, str]:
        """The identity of each input, by name."""
        return {name: source_key(given) for name, given in self.inputs.items()}

    @property
    def sources(self) -> Iterator["Node"]:
        """The nodes whose artifacts are inputs of this one."""
        return (given.source for given in self.inputs.values() if isinstance(given, Edge))

    @property
    def gates(self) -> tuple[ScoreGate, ...]:
        """The conditions that must be met before this node is built: its own, and those of the stores that it reads."""
        return tuple({gate.evaluation.key: gate for node in (self, *self.sources) if (gate := node.gate)}.values())

    @property
    def waits_for(self) -> Iterator["Node"]:
        """The nodes that must be built before this one: its sources, and the evaluations that its gates ask for."""
        yield from self.sources
        yield from (gate.evaluation for gate in self.gates)

    def matches_stage_option(self, name: str) -> bool:
        """Whether ``--stage name`` selects this node: ``name`` is its role, its stage, its name, or a prefix of its
        name that ends before a slash."""
        own = self.name.split("@")[0]
        return name in (self.role, self.spec.stage, own) or own.startswith(name + "/")


MODEL = "model"
"""The folder of an artifact that holds its model."""


def source_key(given: Edge | ExternalInput) -> str:
    """The identity of an input in keys: that of an external input, or the key of an artifact; for a folder other than
    ``model``, such as the model of an epoch, the key and the folder."""
    if isinstance(given, ExternalInput):
        return given.identity
    return given.source.key if given.part in ("", MODEL) else f"{given.source.key}/{given.part}"


def artifact_key(identity: str) -> str:
    """The key of the artifact that an input is, or is a folder of. ``identity`` is from ``source_key``."""
    return identity.partition("/")[0]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after its inputs, each key once.

    ``wanted`` are the nodes that the recipe requests, under all their names: two methods may come to the same training,
    and so to the same key. ``warnings`` are lines for the user, which a plan and a run show.
    """

    nodes: tuple[Node, ...]
    wanted: tuple[Node, ...] = ()
    warnings: tuple[str, ...] = ()

    @staticmethod
    def of(wanted: list[Node]) -> "Graph":
        """The graph of the wanted nodes and of all nodes that they depend on.

        Of two nodes with one key, whose specs can differ only in the further files that they ask for, the one whose
        artifact serves both is taken.
        """
        visited: dict[str, Node] = {}

        def visit(node: Node) -> None:
            first = visited.get(node.key)
            if first is not None:
                if first.spec != node.spec and differences(plain(first.spec), node.spec):
                    visited[node.key] = replace(first, spec=node.spec)
                return
            for needed in node.waits_for:
                visit(needed)
            visited[node.key] = node

        for node in wanted:
            visit(node)
        return Graph(tuple(visited.values()), tuple({node.name: node for node in wanted}.values()))

    @cached_property
    def further_names(self) -> dict[str, list[str]]:
        """Key -> the names under which the recipe requests a node, other than the name of the node in ``nodes``."""
        names = {node.key: node.name for node in self.nodes}
        found: dict[str, list[str]] = {}
        for node in self.wanted:
            if node.name != names[node.key]:
                found.setdefault(node.key, []).append(node.name)
        return found

    def dependants(self, keys: set[str]) -> set[str]:
        """``keys`` and the keys of all nodes that depend on them."""
        found = set(keys)
        for node in self.nodes:
            if any(source.key in found for source in node.sources):
                found.add(node.key)
        return found
