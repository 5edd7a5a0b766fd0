"""Graph + storage -> plan: which artifacts are reused and which are built, why, and how large they are. Runs no stage.

A node is built if no artifact has its key and a requested result depends on it. The reason is found by comparing the
node with the artifact that had its name in the last run of the recipe.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.artifacts.record import KEY, NAMED, DamagedRecord, Record, missing, read_record, record_name
from pipeline.errors import RequestError, nearest
from pipeline.graph.fingerprint import Json, differences, plain, shortened
from pipeline.graph.nodes import Edge, Graph, Node, Quantity
from pipeline.plan.gates import refused_nodes
from pipeline.plan.quantities import sizes_of
from pipeline.plan.reuse import priors, reusable_records
from pipeline.storage import Storage, UnreadableDocument

Action = Literal["reuse", "build", "skip"]


@dataclass(frozen=True, slots=True)
class Step:
    """The action for one node, with the reason (``why``) and the size. ``record`` is that of the artifact to reuse."""

    node: Node
    action: Action
    why: str
    rows: Quantity
    bytes: Quantity
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The action for each node of a graph.

    ``forced`` are the keys that ``--stage`` builds again. ``stale`` are keys whose artifact was made by another spec
    than the one requested under the same key, and the keys that depend on them, each with its record: these records
    are withdrawn before anything is built in their place. ``further_names`` is as in ``Graph``. ``refused`` says, by
    key, why a node that is needed cannot be built (``teacher.least``), and ``blocked`` has the nodes that depend on
    those; both are skipped.
    """

    steps: tuple[Step, ...]
    forced: frozenset[str]
    stale: Mapping[str, Record | None] = field(default_factory=dict)
    further_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)

    @property
    def builds(self) -> tuple[Step, ...]:
        """The steps that build an artifact, each after those of its inputs."""
        return tuple(step for step in self.steps if step.action == "build")


def plan(graph: Graph, storage: Storage, recipe: str, stage: str | None = None) -> Plan:
    """The plan for ``graph``. ``recipe`` is the recipe's name. ``stage`` is ``NAME`` or ``NAME@task``: the nodes that
    it selects, and all that depend on them, are built again. Raises RequestError if it selects none."""
    storage = storage.snapshot()
    forced = graph.dependants(selected_keys(graph, stage)) if stage else set()
    records, unusable, other_spec = _reusable_records(graph, storage)
    stale: dict[str, Record | None] = dict(other_spec)
    for key in graph.dependants(set(other_spec)) - set(other_spec):
        stale[key] = records.pop(key, None)
        if stale[key] is not None:
            unusable[key] = "an input of it is built again"
    reusable = {key: record for key, record in records.items() if key not in forced}
    refused, blocked = refused_nodes(graph, _needed(graph, set(reusable), forced), reusable)
    unbuildable = {**refused, **blocked}
    needed = _needed(graph, set(reusable), forced, set(unbuildable))
    builds = [node for node in graph.nodes if node.key in needed - forced]
    candidates = [
        record for stage in {node.spec.stage for node in builds} for record in reusable_records(storage, stage)
    ]
    steps = []
    sizes = sizes_of(graph.nodes, records)
    for node in graph.nodes:
        record = reusable.get(node.key)
        action: Action = "build"
        if node.key in unbuildable:
            action, why = "skip", unbuildable[node.key]
        elif node.key in forced:
            why = f"requested by --stage {stage}"
        elif record is not None:
            action, why = "reuse", f"built {record.committed}"
        elif node.key in needed:
            reason = unusable.get(node.key) or reason_to_build(node, storage, recipe)
            why = reason + _reusable_rows_note(priors(candidates, node, storage, records))
        else:
            action, why = "skip", "no node that is built needs it"
        steps.append(Step(node, action, why, sizes[node.key].rows, sizes[node.key].bytes, record))
    return Plan(
        tuple(steps), frozenset(forced - set(unbuildable)), stale, graph.further_names, refused=refused, blocked=blocked
    )


def _reusable_records(graph: Graph, storage: Storage) -> tuple[dict[str, Record], dict[str, str], dict[str, Record]]:
    """The records of a graph that can be reused, by key; the reasons why others cannot, by key; and the records whose
    spec differs from the requested one, although the key is the same, by key."""
    records: dict[str, Record] = {}
    unusable: dict[str, str] = {}
    other_spec: dict[str, Record] = {}
    for node in graph.nodes:
        try:
            record = read_record(storage, record_name(node.spec.stage, node.key))
        except DamagedRecord as error:
            unusable[node.key] = f"record is damaged: {error.reason}; built again"
            continue
        if record is None:
            continue
        lost, found = missing(storage, record), differences(record.spec, node.spec)
        if not all(difference.further_files for difference in found):
            other_spec[node.key] = record
        if found:
            unusable[node.key] = "; ".join(map(str, found[:3]))
        elif lost:
            unusable[node.key] = f"{lost} is missing or cut short"
        else:
            records[node.key] = record
    return records, unusable, other_spec


def _reusable_rows_note(earlier: Sequence[Record]) -> str:
    """The end of the reason to build a store: earlier stores from which rows can be reused instead of computed."""
    names = sorted({record.name for record in earlier})
    return f"; rows of {', '.join(names)} may be carried over" if names else ""


def selected_keys(graph: Graph, stage: str) -> set[str]:
    """The keys of the nodes that ``--stage`` selects: ``NAME`` or ``NAME@task``. Raises RequestError if it selects
    none."""
    name, _, task = stage.partition("@")
    named = (*graph.nodes, *graph.wanted)
    found = {node.key for node in named if node.matches_stage_option(name) and (not task or node.task == task)}
    if not found:
        names = {f"{n.role}@{n.task}" if task else n.role for n in graph.nodes} | {n.name for n in named}
        raise RequestError(f"--stage: {stage} selects no node of this recipe; {nearest(stage, names)}")
    return found


def _needed(graph: Graph, there: set[str], forced: set[str], unbuildable: Container[str] = ()) -> set[str]:
    """The keys that have to be built: results without an artifact, and what those wait for and is without one too.

    Results are the forced nodes; without any, all evaluations, students and nodes that are no input of another node.
    ``there`` are the keys that can be reused. Those of ``unbuildable``, and what only they wait for, are not needed.
    """
    sources = {source.key for node in graph.nodes for source in node.sources}
    results = ("distil", "evaluate")
    final = forced or {node.key for node in graph.nodes if node.key not in sources or node.role in results}
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if node.key in final and node.key not in there and node.key not in unbuildable:
            needed.add(node.key)
        if node.key in needed:
            needed.update(other.key for other in node.waits_for if other.key not in there)
    return needed


def last_key_path(recipe: str, node: Node) -> str:
    """The name of the stored file with the key that a node of this name had in the last run of the recipe."""
    return f"{NAMED}/{recipe}/{node.name}.key"


def last_key(storage: Storage, recipe: str, node: Node) -> str:
    """The key that a node of this name had in the last run of the recipe; '' if there was none, or if what was noted of
    it is damaged: it only serves to explain plans."""
    try:
        key = (storage.read(last_key_path(recipe, node)) or "").strip()
    except UnreadableDocument:
        return ""
    return key if KEY.fullmatch(key) else ""


def reason_to_build(node: Node, storage: Storage, recipe: str) -> str:
    """Why no artifact has the node's key: what changed since the last run of the recipe, in one line."""
    key = last_key(storage, recipe, node)
    if not key:
        return "never built"
    try:
        before = read_record(storage, record_name(node.spec.stage, key))
    except DamagedRecord:
        return "the record of its last artifact is damaged, so it is not known what changed"
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
    """A line such as ``train.epochs: 3 -> 4`` for each value that differs between two specs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = list(after) + [name for name in before if name not in after]
        parts = [spec_changes(before.get(n), after.get(n), f"{where}.{n}" if where else n) for n in names]
        return [change for part in parts for change in part]
    return [] if before == after else [f"{where}: {shortened(before)} -> {shortened(after)}"]


def _changed_inputs(node: Node, before: Mapping[str, str]) -> list[str]:
    """The names of inputs that were added, removed or changed. ``before`` maps names to the earlier identities."""
    now = node.input_keys
    return [name for name in [*now, *(n for n in before if n not in now)] if now.get(name) != before.get(name)]


def _input_change(name: str, node: Node, before: Mapping[str, str]) -> str:
    """The change of one input, for the reason to build."""
    given = node.inputs.get(name)
    if given is None:
        return f"input {name} was removed"
    about = given.source.name if isinstance(given, Edge) else given.about
    return f"input {name} {'changed' if name in before else 'is new'} ({about})"
