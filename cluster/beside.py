"""Actors that a driver talks to run on its own node: where that is gone, so is the driver."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def beside_the_driver() -> Any:
    """A scheduling strategy, for actors that hold no CPU. Another node may die without their loss.

    It is a hard one: Ray puts an actor that wants nothing on any node where the affinity is soft.
    """
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
