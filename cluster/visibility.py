"""Which paths the nodes of a cluster can see."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LAG_SECONDS = 5.0
"""How long a shared file system may take to show a node what another has just written."""
ANSWER_SECONDS = 60.0
"""How long nodes get to answer. One that does not is starting or ending; its workers will report what they lack."""


def unseen(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(node, path) for each path that an alive node does not see; [] without a check where there is only one node.

    Raises ``ConnectionError`` where a node cannot set up the run's environment.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 or not paths:
        return []
    look_up: Any = ray.remote(num_cpus=0, max_retries=1)(missing)
    pending = {
        look_up.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            list(paths), LAG_SECONDS
        ): f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        for node in nodes
    }
    answered, _ = ray.wait(list(pending), num_returns=len(pending), timeout=ANSWER_SECONDS)
    return [(pending[ref], path) for ref in answered for path in _answer(ref, pending[ref])]


def missing(paths: Sequence[str], seconds: float) -> list[str]:
    """The paths that do not exist, and do not appear within so many seconds."""
    ends = time.monotonic() + seconds
    left = list(paths)
    while left:
        left = [path for path in left if not Path(path).exists()]
        if time.monotonic() >= ends:
            return left
        if left:
            time.sleep(0.2)
    return []


def _answer(ref: Any, node: str) -> list[str]:
    try:
        return list(ray.get(ref))
    except RuntimeEnvSetupError as error:
        why = (str(error).strip().splitlines() or ["no reason is given"])[-1]
        raise ConnectionError(f"address: node {node} cannot set up the run's packages: {why}") from error
    except RayError:
        return []  # the node was lost meanwhile
