"""The order in which a run starts its nodes where not all of them fit at once.

Scores come early: a model is evaluated as soon as it is there, and students that need no candidates come before all
that is done for candidates, since embedding a large bank may take longer than everything else together. Within such a
group, earlier stages come first, over all tasks, so that workers of one kind are started once and shared; and within a
stage, what the longest chain of further nodes waits for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from cluster.resources import Resources
from pipeline.graph.nodes import Node
from pipeline.plan.resources import PARALLEL_ROLES
from pipeline.recipe import STAGES

EVALUATION = "evaluate"
"""The role of nodes that score a finished model. They are short, and a store may wait for one (``teacher.least``), as
does the score of an ensemble, which reads those of its members."""
CANDIDATE_ROLES = ("bank", "embed", "index", "candidates")
"""Roles that make candidates. All that is built from their artifacts comes last."""
EVALUATIONS, WITHOUT_CANDIDATES, WITH_CANDIDATES = range(3)
"""The groups of nodes, the most urgent first."""


class Urgency(NamedTuple):
    """The rank of a node: the smallest is the most urgent. ``following`` is the length of the longest chain of nodes
    that wait for it (as inputs, or for a score that they need), negative; ``number`` its place in the plan."""

    group: int
    stage: int
    following: int
    number: int


def urgencies(nodes: Sequence[Node]) -> dict[str, Urgency]:
    """Key -> urgency of each node that a run builds. ``nodes`` are sorted: inputs come first."""
    after_candidates: set[str] = set()
    for node in nodes:
        if node.role in CANDIDATE_ROLES or any(other.key in after_candidates for other in node.waits_for):
            after_candidates.add(node.key)
    following = dict.fromkeys((node.key for node in nodes), 0)
    for node in reversed(nodes):
        for other in node.waits_for:
            if other.key in following:
                following[other.key] = max(following[other.key], following[node.key] + 1)
    return {
        node.key: Urgency(_group(node, after_candidates), STAGES.index(node.role), -following[node.key], number)
        for number, node in enumerate(nodes)
    }


def _group(node: Node, after_candidates: set[str]) -> int:
    if node.role == EVALUATION:
        return EVALUATIONS
    return WITH_CANDIDATES if node.key in after_candidates else WITHOUT_CANDIDATES


def least(node: Node, wanted: Resources) -> Resources:
    """The resources with which a node may start: one worker where each works on items of its own, else all."""
    return replace(wanted, workers=1) if node.role in PARALLEL_ROLES else wanted
