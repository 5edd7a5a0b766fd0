"""A plan as a table, and as items for ``--format json``."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.record import Record
from pipeline.graph.nodes import Node, Quantity
from pipeline.graph.split_sizes import share_text
from pipeline.monitor.forecast import Forecast, total_text
from pipeline.plan.estimate import approximate_time
from pipeline.plan.planner import Plan, Step
from pipeline.plan.quantities import sizes_of_splits
from stages.specs.axes.structures import NoLayers, StructureKind
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import SimilaritySpec
from stages.specs.layer_map import LayerGroup, describe_groups
from stages.specs.pretraining import PretrainSpec
from stages.specs.schedule import generated_epochs
from stages.specs.student import DistilSpec

NUMBERS = ("rows", "bytes", "time")
MARKS = {"at most": "<= ", "about": "~"}
"""What stands before a figure that is not exact."""
DIGITS = 8
"""Digits of a key in the table. ``show`` and ``verify`` take them for the whole key."""
STYLES = {"build": "yellow", "reuse": "green", "skip": "dim"}
SHARED_ROLES = ("pretrain", "finetune", "teach", "distil")
"""Roles whose nodes may serve several students; the table says how many."""


def as_items(plan: Plan, expected: Forecast) -> list[dict[str, object]]:
    """One JSON object for each node."""
    serves = served(plan)
    return [
        _item(step, plan, expected, serves[step.node.key], plan.further_names.get(step.node.key, ()))
        for step in plan.steps
    ]


def _item(step: Step, plan: Plan, expected: Forecast, serves: int, also: Sequence[str]) -> dict[str, object]:
    node, key = step.node, step.node.key
    source = None if key not in expected.seconds else "probe" if key in expected.probed else "records"
    splits = sizes_of_splits(node, records_of(plan)) if isinstance(node.spec, CorpusSpec) else None
    return {
        "node": node.name,
        "also": list(also),
        "role": node.role,
        "stage": node.spec.stage,
        "task": node.task,
        "key": node.key,
        "action": step.action,
        "why": step.why,
        "rows": asdict(step.rows),
        "bytes": asdict(step.bytes),
        "seconds": _rounded(expected.seconds.get(key)),
        "seconds_from": source,
        "ends": _rounded(expected.ends.get(key)),
        "serves": serves,
        "layers": [asdict(group) for group in layers_of(node)],
        "held_bytes": None if node.held is None else node.held.bytes,
        "generated_rows": _generated_rows(step),
        "inputs": node.input_keys,
        "splits": None if splits is None else asdict(splits),
    }


def _generated_rows(step: Step) -> int | None:
    """How many generated rows a live teacher reads in a training; None for a node without, or where it is unknown."""
    spec = step.node.spec
    if not isinstance(spec, DistilSpec) or not spec.method.has_generated_rows:
        return None
    return step.rows.times(generated_epochs(spec.method, spec.train.epochs)).value


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def print_plan(
    plan: Plan, expected: Forecast, console: Console, advice: str = "", shared_workers: Sequence[str] = ()
) -> None:
    """Print the plan and its totals, a line of ``advice`` if there is any, and the lines on workers that trainings
    share."""
    table, serves = Table(header_style="bold"), served(plan)
    for head in ("node", "action", *NUMBERS, "key", "why"):
        table.add_column(
            head,
            justify="right" if head in NUMBERS else "left",
            overflow="fold",
            min_width=DIGITS if head == "key" else None,
        )
    for step in plan.steps:
        key = step.node.key
        table.add_row(
            step.node.name,
            step.action,
            figure_text(step.rows),
            figure_text(step.bytes),
            _time(key, expected),
            key[:DIGITS],
            Text("; ".join((step.why, *_more(step.node, serves[key], plan.further_names.get(key, ()))))),
            style=STYLES[step.action],
        )
    console.print(table)
    if advice:
        console.print(advice)
    counts = {action: sum(step.action == action for step in plan.steps) for action in STYLES}
    refused = len(plan.refused) + len(plan.blocked)
    more = f", {refused} refused" if refused else ""
    console.print(
        f"{counts['reuse']} to reuse, {counts['build']} to build, {counts['skip'] - refused} not needed{more}"
    )
    for line in (*shares(plan), *live_teachers(plan), *shared_workers):
        console.print(line)
    if plan.builds:
        console.print(total_text(plan, expected))


def _time(key: str, expected: Forecast) -> str:
    """``~12 s``; ``~12 s (probe)`` for a time that no record tells; '' for an unknown one."""
    if key not in expected.seconds:
        return ""
    return approximate_time(expected.seconds[key]) + (" (probe)" if key in expected.probed else "")


def shares(plan: Plan) -> list[str]:
    """For each task one line: how many rows of train its models are trained on."""
    records, found = records_of(plan), {}
    embedding = {step.node.task for step in plan.steps if isinstance(step.node.spec, SimilaritySpec)}
    for step in plan.steps:
        if step.node.task in embedding:  # whose rows of train no model reads
            continue
        splits = sizes_of_splits(step.node, records) if isinstance(step.node.spec, CorpusSpec) else None
        if splits is not None and step.node.task not in found:
            found[step.node.task] = share_text(step.node.task, splits)
    return list(found.values())


def live_teachers(plan: Plan) -> list[str]:
    """A line for each training that is to be built and runs its teachers: what a worker holds, and how often they
    run. Students that differ in their seed alone have one line."""
    found: dict[str, str] = {}
    for step in plan.steps:
        node, held = step.node, step.node.held
        if step.action != "build" or held is None or not held.teachers:
            continue
        match node.spec:
            case DistilSpec(method=method, train=train):
                group = f"{node.name.rpartition('/')[0]}@{node.task}"
                rows = figure_text(step.rows.times(generated_epochs(method, train.epochs)))
                reads = f"each live teacher reads {rows} generated rows, once"
            case PretrainSpec() as spec:
                group = node.name
                reads = f"the teacher reads {figure_text(step.rows)} texts in each of at most {spec.epochs} epochs"
            case _:
                continue
        holds = f"a worker holds about {held.bytes:,} bytes of models and optimizers ({held.describe()})"
        found.setdefault(group, f"{group}: {reads}; {holds}")
    return list(found.values())


def records_of(plan: Plan) -> dict[str, Record]:
    """Key -> record of each artifact that is reused."""
    return {step.node.key: step.record for step in plan.steps if step.record is not None}


def _more(node: Node, serves: int, also: Sequence[str]) -> list[str]:
    """Remarks after the reason: the node's other names, the students it serves, the teacher layers it follows."""
    remarks, groups = [f"also {name.partition('@')[0]}" for name in also], layers_of(node)
    if node.role in SHARED_ROLES and node.subject is None and serves:
        remarks.append(f"serves {serves} student{'' if serves == 1 else 's'}")
    if groups:
        drawn = "layers drawn each epoch" if _structure(node).redraws else "layers"
        # No spaces within a group, so that lines are broken between groups only.
        remarks.append(f"{drawn} {describe_groups(groups).replace(' <- ', '<-')}")
    return remarks


def layers_of(node: Node) -> tuple[LayerGroup, ...]:
    """The layers of its teacher that each layer of a student follows; () for a node that is no student."""
    return _structure(node).layer_groups()


def _structure(node: Node) -> StructureKind:
    """The structure of a student, or of a model that is pretrained on states; that without layers for another node."""
    match node.spec:
        case DistilSpec(method=method):
            return method.structure
        case PretrainSpec(states=states) if states is not None:
            return states
        case _:
            return NoLayers()


def served(plan: Plan) -> dict[str, int]:
    """Key of each node -> the number of reported students that depend on it; models that only teach do not count."""
    nodes = [step.node for step in plan.steps]
    students: dict[str, set[str]] = {node.key: set() for node in nodes}
    for node in reversed(nodes):
        own = {node.key} if node.role in ("distil", "pretrain") and node.subject is not None else set()
        for source in node.sources:
            students[source.key] |= students[node.key] | own
    return {key: len(found) for key, found in students.items()}


def figure_text(figure: Quantity) -> str:
    """``1,000``, ``<= 1,000`` for a bound, ``~1,000`` for an expected number, or ``unknown until NODE`` is built."""
    if figure.value is None:
        return f"unknown until {figure.until}"
    return f"{MARKS.get(figure.kind, '')}{figure.value:,}"
