"""The nodes of the connected cluster, and how far it may grow, where that is known.

Ray has no interface that tells what its autoscaler may add, except what a platform has written into the cluster's own
store. On the head node, where a submitted job runs, the autoscaler's process is visible, and its command line names the
file that says it. Elsewhere, and where Kubernetes scales the cluster, it is unknown.
"""

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import yaml

from cluster.amount import Amount
from cluster.ray_internals import MONITOR_ADDRESS, MONITOR_CONFIG, MONITORS, scalable_node_groups
from cluster.resources import Growth

STANDARD_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")


def nodes() -> tuple[Amount, ...]:
    """The resources of each node that is alive. A node's memory is what Ray may reserve there.

    Raises ``ConnectionError`` where this process's own node is not alive, since nothing can be placed from it any more.
    """
    alive = {node["NodeID"]: amount_of(node["Resources"]) for node in ray.nodes() if node["Alive"]}
    if ray.get_runtime_context().get_node_id() not in alive:
        raise ConnectionError("Ray's node that this run is connected to is gone, its raylet has died")
    return tuple(alive.values())


def growth() -> Growth | None:
    """How far the cluster may grow; None where that is unknown."""
    kinds = scalable_node_groups()
    if kinds:
        return growth_from([(sys.maxsize if count < 0 else count, resources) for count, resources in kinds])
    for path in autoscalers(Path("/proc"), ray.get_runtime_context().gcs_address):
        with contextlib.suppress(OSError, yaml.YAMLError):
            return growth_of(yaml.safe_load(path.read_text("utf-8")))
    return None


def growth_of(config: Any) -> Growth | None:
    """The growth that a file for ``ray up`` allows, after Ray has completed the file. None where it leaves a node's
    resources open."""
    types = config.get("available_node_types") if isinstance(config, Mapping) else None
    if not types:
        return None
    head, workers = config.get("head_node_type"), int(config.get("max_workers", 0))
    counts = {name: workers if kind.get("max_workers") is None else kind["max_workers"] for name, kind in types.items()}
    if head in counts:
        counts[head] += 1
    return growth_from([(counts[name], types[name].get("resources") or {}) for name in types], workers + 1)


def growth_from(kinds: list[tuple[int, Mapping[str, float]]], most: int | None = None) -> Growth | None:
    """From (largest count, resources of one node) of each kind of node, and the largest count of all together. None
    where the resources of a kind are left open."""
    kinds = [(count, resources) for count, resources in kinds if count > 0]
    if not kinds or any("CPU" not in resources and "GPU" not in resources for _, resources in kinds):
        return None
    # Memory that is not stated is unknown, not 0.
    return Growth(tuple((count, amount_of({"memory": math.inf, **resources})) for count, resources in kinds), most)


def amount_of(resources: Mapping[str, float]) -> Amount:
    """The amount that Ray's names stand for, without ``node:<address>``, which each node has under its own name."""
    custom = {name: float(have) for name, have in resources.items() if name not in STANDARD_RESOURCES}
    return Amount(
        float(resources.get("CPU", 0.0)),
        float(resources.get("GPU", 0.0)),
        float(resources.get("memory", 0.0)),
        tuple(sorted((name, have) for name, have in custom.items() if not name.startswith("node:"))),
    )


def autoscalers(processes: Path, address: str) -> Iterator[Path]:
    """The configuration files of the autoscalers that run on this machine for the cluster at ``address``."""
    for entry in processes.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().decode("utf-8", "replace").split("\0")
            if not any(word.endswith(MONITORS) for word in words) or f"{MONITOR_ADDRESS}={address}" not in words:
                continue
            for word in words:
                name, _, path = word.partition("=")
                if name == MONITOR_CONFIG:
                    yield Path(path).expanduser()
