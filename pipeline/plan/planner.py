"""Graph + storage -> plan: what is reused, what is built, why, and how large it is. Runs nothing.

A node is built when its key has no artifact and something asked for needs it. The reason is found by
comparing with what stood under the node's name the last time this recipe was run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.artifacts.record import NAMED, Record, missing, read_record, record_name
from pipeline.errors import RequestError, nearest
from pipeline.graph.fingerprint import Json, differences, plain
from pipeline.graph.nodes import Edge, Figure, Graph, Node
from pipeline.plan.reuse import priors, reusable_records
from pipeline.storage import Storage

Action = Literal["reuse", "build", "skip"]


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one node. ``record`` is the artifact that is reused."""

    node: Node
    action: Action
    why: str
    rows: Figure
    bytes: Figure
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to each node of a graph.

    ``forced`` are the keys that ``--stage`` builds anew. ``stale`` are keys whose record was made by another spec than
    the one requested under the same key, and all that depends on them: their records are withdrawn before anything is
    built in their place. ``also`` maps a key to further names under which its node was wanted.
    """

    steps: tuple[Step, ...]
    forced: frozenset[str]
    stale: frozenset[str] = frozenset()
    also: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def builds(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action == "build")


def plan(graph: Graph, storage: Storage, recipe: str, stage: str | None = None) -> Plan:
    """``stage`` is ``NAME`` or ``NAME@task``: that stage and what depends on it is built anew."""
    storage = storage.snapshot()
    forced = graph.dependants(selected(graph, stage)) if stage else set()
    records, unfit, other_spec = _standing(graph, storage)
    stale = graph.dependants(other_spec)
    for node in graph.nodes:
        if node.key in stale and node.key in records:
            del records[node.key]
            unfit[node.key] = "an input of it is built again"
    needed = _needed(graph, set(records) - forced, forced)
    builds = [node for node in graph.nodes if node.key in needed - forced]
    there = [record for stage in {node.spec.stage for node in builds} for record in reusable_records(storage, stage)]
    steps = []
    for node in graph.nodes:
        if node.key in forced:
            steps.append(_build(node, f"asked for by --stage {stage}"))
        elif node.key in records:
            record = records[node.key]
            figure = Figure.exact(record.rows)
            steps.append(Step(node, "reuse", f"built {record.committed}", figure, Figure.exact(record.bytes), record))
        elif node.key in needed:
            why = unfit.get(node.key) or reason(node, storage, recipe)
            steps.append(_build(node, why + _carried(priors(there, node, storage, records))))
        else:
            steps.append(Step(node, "skip", "nothing that is built needs it", node.rows, node.bytes))
    return Plan(tuple(steps), frozenset(forced), frozenset(stale), graph.also)


def _standing(graph: Graph, storage: Storage) -> tuple[dict[str, Record], dict[str, str], set[str]]:
    """The records of a graph that can be reused, by key; why others cannot, by key; and the keys of those whose spec is
    another than the one requested, although the key is the same."""
    records: dict[str, Record] = {}
    unfit: dict[str, str] = {}
    other_spec: set[str] = set()
    for node in graph.nodes:
        record = read_record(storage, record_name(node.spec.stage, node.key))
        if record is None:
            continue
        lost, found = missing(storage, record), differences(record.spec, node.spec)
        if lost:
            unfit[node.key] = f"{lost} is missing or cut short"
        elif found:
            unfit[node.key] = "; ".join(map(str, found[:3]))
            if not all(difference.further_files for difference in found):
                other_spec.add(node.key)
        else:
            records[node.key] = record
    return records, unfit, other_spec


def _build(node: Node, why: str) -> Step:
    return Step(node, "build", why, node.rows, node.bytes)


def _carried(earlier: Sequence[Record]) -> str:
    """What the reason for building a store says of rows that need no computing."""
    names = sorted({record.name for record in earlier})
    return f"; rows of {', '.join(names)} may be carried over" if names else ""


def selected(graph: Graph, stage: str) -> set[str]:
    """Keys of the nodes that ``--stage`` names."""
    name, _, task = stage.partition("@")
    named = (*graph.nodes, *graph.wanted)
    found = {node.key for node in named if node.answers_to(name) and (not task or node.task == task)}
    if not found:
        names = {f"{n.role}@{n.task}" if task else n.role for n in graph.nodes} | {n.name for n in named}
        raise RequestError(f"--stage: {stage} names nothing in this recipe; {nearest(stage, names)}")
    return found


def _needed(graph: Graph, there: set[str], forced: set[str]) -> set[str]:
    """Keys that have to be built: absent results, and whatever absent thing they are made of."""
    sources = {source.key for node in graph.nodes for source in node.sources}
    asked = ("distil", "evaluate")
    final = forced or {node.key for node in graph.nodes if node.key not in sources or node.role in asked}
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if node.key in final and node.key not in there:
            needed.add(node.key)
        if node.key in needed:
            needed.update(source.key for source in node.sources if source.key not in there)
    return needed


def pointer(recipe: str, node: Node) -> str:
    """Where the key that last stood under a node's name is kept, for telling what changed."""
    return f"{NAMED}/{recipe}/{node.name}.key"


def reason(node: Node, storage: Storage, recipe: str) -> str:
    key = storage.read(pointer(recipe, node))
    if key is None:
        return "never built"
    before = read_record(storage, record_name(node.spec.stage, key.strip()))
    if before is None:
        return "its artifact was removed"
    if before.key == node.key:
        return "its artifact was removed"
    changes = []
    if before.version != node.spec.version:
        changes.append(f"version of {node.spec.stage}: {before.version} -> {node.spec.version}")
    changes += spec_changes(before.spec, plain(node.spec))
    changes += [_input_change(name, node, before.inputs) for name in _changed_inputs(node, before.inputs)]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return "; ".join(changes[:3]) + more


def spec_changes(before: Json, after: Json, where: str = "") -> list[str]:
    """``train.epochs: 3 -> 4`` for each leaf that differs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = list(after) + [name for name in before if name not in after]
        parts = [spec_changes(before.get(n), after.get(n), f"{where}.{n}" if where else n) for n in names]
        return [change for part in parts for change in part]
    return [] if before == after else [f"{where}: {_short(before)} -> {_short(after)}"]


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _changed_inputs(node: Node, before: Mapping[str, str]) -> list[str]:
    now = node.input_keys
    return [name for name in [*now, *(n for n in before if n not in now)] if now.get(name) != before.get(name)]


def _input_change(name: str, node: Node, before: Mapping[str, str]) -> str:
    given = node.inputs.get(name)
    if given is None:
        return f"input {name} is gone"
    about = given.source.name if isinstance(given, Edge) else given.about
    return f"input {name} {'changed' if name in before else 'is new'} ({about})"
