"""What the nodes of a cluster see of the file system."""

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
"""How long nodes get to answer. One that does not is started up, or going; its workers will be heard of."""


def unseen(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(node, path) for each path that an alive node does not see. Nothing is asked where there is one node.

    Raises ``ConnectionError`` where a node cannot run anything of ours.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 or not paths:
        return []
    look: Any = ray.remote(num_cpus=0, max_retries=1)(missing)
    asked = {
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            list(paths), LAG_SECONDS
        ): f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        for node in nodes
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    return [(asked[ref], path) for ref in answered for path in _answer(ref, asked[ref])]


def missing(paths: Sequence[str], seconds: float) -> list[str]:
    """Those that are not there, and do not come within so many seconds."""
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
        raise ConnectionError(f"address: node {node} cannot set up what the run brings: {why}") from error
    except RayError:
        return []  # the node went meanwhile
