"""The lowest score with which a model may teach (``teacher.least``): checked before anything is computed from it."""

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.record import Record
from pipeline.errors import RequestError
from pipeline.graph.nodes import Node


def check_gates(node: Node, records: Mapping[str, Record]) -> None:
    """Raises RequestError if a model that ``node`` depends on scores lower than its gate allows. ``records`` has the
    records of the evaluations, by key."""
    for gate in node.gates:
        scores: Any = records[gate.evaluation.key].facts["scores"]
        known = {split: scores[split][gate.metric] for split in gate.splits if split in scores}
        if not known:
            raise RequestError(
                f"teacher.least: {gate.least:g}, but the dev splits of {node.task} have no labels; leave it out"
            )
        split = min(known, key=lambda name: known[name])
        if known[split] < gate.least:
            raise RequestError(
                f"teacher.least: {gate.least:g}, but the teacher {gate.model} of {node.task} scores "
                f"{known[split]:.1f} ({split} {gate.metric}), so nothing is distilled from it; train it better "
                "(teacher.finetune), take another teacher.model, or lower teacher.least"
            )
