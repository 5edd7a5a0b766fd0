"""The lowest score with which a model may teach (``teacher.least``): checked before anything is computed from it.

A score that is known already is checked while planning, the others as soon as the evaluation has been built.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pipeline.artifacts.record import Record
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node, ScoreGate


def check_gates(node: Node, records: Mapping[str, Record]) -> None:
    """Raises RequestError if a model that ``node`` depends on scores lower than its gate allows. ``records`` has the
    records of the evaluations, by key."""
    for gate in node.gates:
        message = refusal(gate, node.task, records[gate.evaluation.key])
        if message:
            raise RequestError(message)


def refused_nodes(
    graph: Graph, needed: Collection[str], records: Mapping[str, Record]
) -> tuple[dict[str, str], dict[str, str]]:
    """The nodes of ``needed`` that cannot be built, as far as ``records`` (by key) have the scores: key -> why the gate
    of the node is not met; and key -> why not, of the nodes that depend on those."""
    refused: dict[str, str] = {}
    blocked: dict[str, str] = {}
    for node in graph.nodes:
        if node.key not in needed:
            continue
        scored = [gate for gate in node.gates if gate.evaluation.key in records]
        messages = [refusal(gate, node.task, records[gate.evaluation.key]) for gate in scored]
        without = [other.name for other in node.waits_for if other.key in refused or other.key in blocked]
        if without:
            blocked[node.key] = f"not built, as {without[0]} is not built"
        elif message := next(filter(None, messages), ""):
            refused[node.key] = message
    return refused, blocked


def refusal(gate: ScoreGate, task: str, evaluation: Record) -> str:
    """Why the model of ``gate`` may not teach, in one line; '' if its scores suffice. A score that is not a number does
    not."""
    scores: Any = evaluation.facts["scores"]
    known = {split: scores[split][gate.metric] for split in gate.splits if split in scores}
    if not known:
        return f"teacher.least: {gate.least:g}, but the dev splits of {task} have no labels; leave it out"
    low = [split for split, score in known.items() if not score >= gate.least]
    if not low:
        return ""
    split = min(low, key=lambda name: known[name])
    return (
        f"teacher.least: {_digits(gate.least)}, but the teacher {gate.model} of {task} scores "
        f"{_below(known[split], gate.least)} ({split} {gate.metric}), so nothing is distilled from it; train it better "
        "(teacher.finetune), take another teacher.model, or lower teacher.least"
    )


def _digits(number: float) -> str:
    """A number as short as it can be told: ``85``, ``84.5``."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _below(score: float, least: float) -> str:
    """A score with one digit after the point, or as many as tell it from ``least``: ``84.97`` where that is 85."""
    texts = (f"{score:.{digits}f}" for digits in range(1, 16))
    return next((text for text in texts if not float(text) >= least), repr(score))
