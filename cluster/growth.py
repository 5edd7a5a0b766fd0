"""What nodes the connected cluster has, and how far it may grow, where anybody says so.

Ray itself tells nobody what its autoscaler may add, but for what a platform has noted in the cluster's own store. On
the head node, where a submitted job runs, the autoscaler's process can be seen, and reads a file that says it.
Elsewhere, and where Kubernetes scales the cluster, nothing is known.
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

OF_RAY = ("CPU", "GPU", "memory", "object_store_memory")


def nodes() -> tuple[Amount, ...]:
    """Those that are alive. A node's memory is what Ray may set aside there.

    Raises ``ConnectionError`` where this process's own is not among them: nothing more can be placed from here.
    """
    alive = {node["NodeID"]: amount_of(node["Resources"]) for node in ray.nodes() if node["Alive"]}
    if ray.get_runtime_context().get_node_id() not in alive:
        raise ConnectionError("Ray's node that this run is connected to is gone, its raylet has died")
    return tuple(alive.values())


def growth() -> Growth | None:
    """None where nobody says."""
    kinds = scalable_node_groups()
    if kinds:
        return grown([(sys.maxsize if count < 0 else count, resources) for count, resources in kinds])
    for path in autoscalers(Path("/proc"), ray.get_runtime_context().gcs_address):
        with contextlib.suppress(OSError, yaml.YAMLError):
            return growth_of(yaml.safe_load(path.read_text("utf-8")))
    return None


def growth_of(config: Any) -> Growth | None:
    """What a file for ``ray up`` says, once Ray has filled it in. None where it leaves a node's resources open."""
    types = config.get("available_node_types") if isinstance(config, Mapping) else None
    if not types:
        return None
    head, workers = config.get("head_node_type"), int(config.get("max_workers", 0))
    counts = {name: workers if kind.get("max_workers") is None else kind["max_workers"] for name, kind in types.items()}
    if head in counts:
        counts[head] += 1
    return grown([(counts[name], types[name].get("resources") or {}) for name in types], workers + 1)


def grown(kinds: list[tuple[int, Mapping[str, float]]], most: int | None = None) -> Growth | None:
    """None where what a node has is left open."""
    kinds = [(count, resources) for count, resources in kinds if count > 0]
    if not kinds or any("CPU" not in resources and "GPU" not in resources for _, resources in kinds):
        return None
    # Memory that is not told is not none.
    return Growth(tuple((count, amount_of({"memory": math.inf, **resources})) for count, resources in kinds), most)


def amount_of(resources: Mapping[str, float]) -> Amount:
    """Of Ray's names. ``node:<address>``, which every node has of its own, is left out."""
    custom = {name: float(have) for name, have in resources.items() if name not in OF_RAY}
    return Amount(
        float(resources.get("CPU", 0.0)),
        float(resources.get("GPU", 0.0)),
        float(resources.get("memory", 0.0)),
        tuple(sorted((name, have) for name, have in custom.items() if not name.startswith("node:"))),
    )


def autoscalers(processes: Path, address: str) -> Iterator[Path]:
    """The files that autoscalers of the cluster at ``address`` read, as far as they run on this machine."""
    for entry in processes.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().decode("utf-8", "replace").split("\0")
            if not any(word.endswith(MONITORS) for word in words) or f"{MONITOR_ADDRESS}={address}" not in words:
                continue
            for word in words:
                name, _, path = word.partition("=")
                if name == MONITOR_CONFIG:
                    yield Path(path).expanduser()
