"""Who feeds whom. A graph is a value: building it runs nothing and reads no artifact.

A ``Node`` is a spec with named inputs; each input is another node, or something from outside whose
content identity is already known. Keys follow from that alone, so the whole plan is known before any
stage runs. Who teaches is an edge here, never a field of a spec.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipeline.graph.fingerprint import key
from stages.outputs.sizes import Extent
from stages.specs.base import Spec


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a plan states: exact, an upper bound, or unknown until some stage has run."""

    value: int | None
    kind: Literal["exact", "at most", "unknown"]
    until: str = ""

    @staticmethod
    def exact(value: int) -> "Figure":
        return Figure(value, "exact")

    @staticmethod
    def at_most(value: int) -> "Figure":
        return Figure(value, "at most")

    @staticmethod
    def unknown(until: str) -> "Figure":
        return Figure(None, "unknown", until)


@dataclass(frozen=True, slots=True)
class ExternalInput:
    """An input that no stage made: a data file or a model directory, by content."""

    identity: str
    path: Path
    about: str


@dataclass(frozen=True)
class Edge:
    """``part`` names the folder of the source's artifact that is meant; '' is all of it."""

    source: "Node"
    part: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a node is about, as a report tells it: the labels of method and student, and the seed."""

    method: str
    student: str
    seed: int


@dataclass(frozen=True)
class Node:
    """One artifact to be. ``role`` is what it is for (``finetune`` and ``distil`` are the same stage).
    ``extent`` is of what a teacher-output store holds of a row."""

    name: str
    role: str
    task: str
    spec: Spec
    inputs: Mapping[str, Edge | ExternalInput]
    subject: Subject | None = None
    rows: Figure = field(default_factory=lambda: Figure.unknown("it has run"))
    bytes: Figure = field(default_factory=lambda: Figure.unknown("it has run"))
    extent: Extent | None = None

    @cached_property
    def key(self) -> str:
        return key(self.spec, self.input_keys)

    @cached_property
    def input_keys(self) -> dict[str, str]:
        return {name: source_key(given) for name, given in self.inputs.items()}

    @property
    def sources(self) -> Iterator["Node"]:
        return (given.source for given in self.inputs.values() if isinstance(given, Edge))

    def answers_to(self, name: str) -> bool:
        """Whether ``--stage name`` means this node: its role, its stage, its name or a prefix of that."""
        own = self.name.split("@")[0]
        return name in (self.role, self.spec.stage, own) or own.startswith(name + "/")


MODEL = "model"
"""The folder of an artifact that holds its model."""


def source_key(given: Edge | ExternalInput) -> str:
    """What an input is known by: for a model of an epoch, its artifact's key and its folder there."""
    if isinstance(given, ExternalInput):
        return given.identity
    return given.source.key if given.part in ("", MODEL) else f"{given.source.key}/{given.part}"


def artifact_key(known_by: str) -> str:
    """The key of the artifact in which an input lies, of what it is known by."""
    return known_by.partition("/")[0]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after its inputs. Nodes with equal keys are one node; ``wanted`` are
    those that were asked for, by every name: two methods may come to the same training."""

    nodes: tuple[Node, ...]
    wanted: tuple[Node, ...] = ()

    @staticmethod
    def of(wanted: list[Node]) -> "Graph":
        """The wanted nodes and all that feeds them, each key once."""
        seen: dict[str, Node] = {}

        def visit(node: Node) -> None:
            if node.key in seen:
                return
            for source in node.sources:
                visit(source)
            seen[node.key] = node

        for node in wanted:
            visit(node)
        return Graph(tuple(seen.values()), tuple({node.name: node for node in wanted}.values()))

    @cached_property
    def also(self) -> dict[str, list[str]]:
        """Key -> further names under which that node was wanted."""
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
