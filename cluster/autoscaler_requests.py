"""Requests to Ray's autoscaler, for work that waits in this driver and of which Ray knows nothing yet.

A request is a placement group for one worker that is never used. It is removed as soon as it has been placed, and it
ends with the driver, however that ends. A request by Ray's own ``request_resources`` would outlive the driver, and keep
the nodes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.amount import Amount, Demand

MAX_REQUESTS = 64
"""AutoscalerRequests at once."""


class AutoscalerRequests:
    """The requests of this driver that have not been placed."""

    def __init__(self) -> None:
        self._requests: list[tuple[Amount, Any]] = []

    def update(self, demands: Sequence[Demand]) -> None:
        """Request exactly these, at most ``MAX_REQUESTS`` workers in all, and drop requests that have been placed."""
        wanted: Counter[Amount] = Counter()
        for demand in demands:
            wanted[demand.each] += min(demand.count, MAX_REQUESTS - wanted.total())
        kept: list[tuple[Amount, Any]] = []
        for each, group in self._requests:
            wanted[each] -= 1
            if wanted[each] >= 0 and not ray.wait([group.ready()], timeout=0)[0]:
                kept.append((each, group))
            else:
                remove_placement_group(group)
        for each, count in wanted.items():
            kept += [(each, placement_group([each.bundle()])) for _ in range(count)]
        self._requests = kept
