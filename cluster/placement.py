"""Placement of the actors that hold no CPU: on the driver's own node, so that no other node's loss ends them."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_driver_node() -> Any:
    """A scheduling strategy of Ray: an affinity to the node on which this is called.

    It is hard, since Ray places an actor that needs no resources on any node when the affinity is soft.
    """
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
