"""A plan as a user sees it: a table, or items for ``--format json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.graph.nodes import Node, Quantity
from pipeline.plan.estimate import about, total_text
from pipeline.plan.planner import Plan, Step
from stages.specs.layer_map import LayerGroup, describe_groups, groups_of
from stages.specs.layers import Random
from stages.specs.student import DistilSpec

NUMBERS = ("rows", "bytes", "time")
STYLES = {"build": "yellow", "reuse": "green", "skip": "dim"}
SHARED = ("finetune", "teach", "distil")
"""Roles of which the table says how many students they serve, if they are no students themselves."""


def as_items(plan: Plan, seconds: Mapping[str, float]) -> list[dict[str, object]]:
    """One item a node. ``seconds`` is by key, as far as it is known."""
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
    """``seconds`` is by key, as far as it is known."""
    table, serves = Table(header_style="bold"), served(plan)
    for head in ("node", "action", *NUMBERS, "why"):
        table.add_column(head, justify="right" if head in NUMBERS else "left", overflow="fold")
    for step in plan.steps:
        key = step.node.key
        table.add_row(
            step.node.name,
            step.action,
            figure_text(step.rows),
            figure_text(step.bytes),
            about(seconds[key]) if key in seconds else "",
            Text("; ".join((step.why, *_more(step.node, serves[key], plan.further_names.get(key, ()))))),
            style=STYLES[step.action],
        )
    console.print(table)
    counts = {action: sum(step.action == action for step in plan.steps) for action in STYLES}
    console.print(f"{counts['reuse']} to reuse, {counts['build']} to build, {counts['skip']} not needed")
    if plan.builds:
        console.print(total_text(plan, seconds))


def _more(node: Node, serves: int, also: Sequence[str]) -> list[str]:
    """What is worth telling of a node beside why it is built."""
    said, groups = [f"also {name.partition('@')[0]}" for name in also], layers_of(node)
    if node.role in SHARED and node.subject is None and serves:
        said.append(f"serves {serves} student{'' if serves == 1 else 's'}")
    if groups:
        assert isinstance(node.spec, DistilSpec)
        drawn = "layers drawn each epoch" if isinstance(node.spec.method.structure, Random) else "layers"
        # Without spaces, so that a line breaks between groups alone.
        said.append(f"{drawn} {describe_groups(groups).replace(' <- ', '<-')}")
    return said


def layers_of(node: Node) -> tuple[LayerGroup, ...]:
    """Which of its teacher's layers each layer of a student follows."""
    return groups_of(node.spec.method.structure) if isinstance(node.spec, DistilSpec) else ()


def served(plan: Plan) -> dict[str, int]:
    """Key of each node -> how many students (further models are none) depend on it."""
    nodes = [step.node for step in plan.steps]
    students: dict[str, set[str]] = {node.key: set() for node in nodes}
    for node in reversed(nodes):
        own = {node.key} if node.role == "distil" and node.subject is not None else set()
        for source in node.sources:
            students[source.key] |= students[node.key] | own
    return {key: len(found) for key, found in students.items()}


def figure_text(figure: Quantity) -> str:
    if figure.value is None:
        return f"unknown until {figure.until}"
    return f"{'<= ' if figure.kind == 'at most' else ''}{figure.value:,}"
