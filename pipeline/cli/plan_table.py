"""A plan as a table, and as items for ``--format json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.graph.nodes import Node, Quantity
from pipeline.plan.estimate import approximate_time, total_text
from pipeline.plan.planner import Plan, Step
from stages.specs.layer_map import LayerGroup, describe_groups, groups_of
from stages.specs.layers import Random
from stages.specs.student import DistilSpec

NUMBERS = ("rows", "bytes", "time")
DIGITS = 8
"""Digits of a key in the table. ``show`` and ``verify`` take them for the whole key."""
STYLES = {"build": "yellow", "reuse": "green", "skip": "dim"}
SHARED_ROLES = ("finetune", "teach", "distil")
"""Roles whose nodes may serve several students; the table says how many."""


def as_items(plan: Plan, seconds: Mapping[str, float]) -> list[dict[str, object]]:
    """One JSON object for each node. ``seconds`` maps keys to estimated seconds, where there is an estimate."""
    serves = served(plan)
    return [
        _item(step, seconds.get(step.node.key), serves[step.node.key], plan.further_names.get(step.node.key, ()))
        for step in plan.steps
    ]


def _item(step: Step, seconds: float | None, serves: int, also: Sequence[str]) -> dict[str, object]:
    node = step.node
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
        "seconds": None if seconds is None else round(seconds, 1),
        "serves": serves,
        "layers": [asdict(group) for group in layers_of(node)],
        "inputs": node.input_keys,
    }


def print_plan(plan: Plan, seconds: Mapping[str, float], console: Console) -> None:
    """Print the plan and its totals. ``seconds`` maps keys to estimated seconds, where there is an estimate."""
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
            approximate_time(seconds[key]) if key in seconds else "",
            key[:DIGITS],
            Text("; ".join((step.why, *_more(step.node, serves[key], plan.further_names.get(key, ()))))),
            style=STYLES[step.action],
        )
    console.print(table)
    counts = {action: sum(step.action == action for step in plan.steps) for action in STYLES}
    console.print(f"{counts['reuse']} to reuse, {counts['build']} to build, {counts['skip']} not needed")
    if plan.builds:
        console.print(total_text(plan, seconds))


def _more(node: Node, serves: int, also: Sequence[str]) -> list[str]:
    """Remarks after the reason: the node's other names, the students it serves, the teacher layers it follows."""
    remarks, groups = [f"also {name.partition('@')[0]}" for name in also], layers_of(node)
    if node.role in SHARED_ROLES and node.subject is None and serves:
        remarks.append(f"serves {serves} student{'' if serves == 1 else 's'}")
    if groups:
        assert isinstance(node.spec, DistilSpec)
        drawn = "layers drawn each epoch" if isinstance(node.spec.method.structure, Random) else "layers"
        # No spaces within a group, so that lines are broken between groups only.
        remarks.append(f"{drawn} {describe_groups(groups).replace(' <- ', '<-')}")
    return remarks


def layers_of(node: Node) -> tuple[LayerGroup, ...]:
    """The layers of its teacher that each layer of a student follows; () for a node that is no student."""
    return groups_of(node.spec.method.structure) if isinstance(node.spec, DistilSpec) else ()


def served(plan: Plan) -> dict[str, int]:
    """Key of each node -> the number of reported students that depend on it; models that only teach do not count."""
    nodes = [step.node for step in plan.steps]
    students: dict[str, set[str]] = {node.key: set() for node in nodes}
    for node in reversed(nodes):
        own = {node.key} if node.role == "distil" and node.subject is not None else set()
        for source in node.sources:
            students[source.key] |= students[node.key] | own
    return {key: len(found) for key, found in students.items()}


def figure_text(figure: Quantity) -> str:
    """``1,000``, ``<= 1,000`` for a bound, or ``unknown until NODE`` is built."""
    if figure.value is None:
        return f"unknown until {figure.until}"
    return f"{'<= ' if figure.kind == 'at most' else ''}{figure.value:,}"
