"""Telling Ray's autoscaler of work that has not started: Ray itself sees nothing of what waits in this driver.

A wish is a placement group of one worker that nobody means to use. It is let go of as soon as it has its room, and it
ends with the driver, however that ends: a request by Ray's own ``request_resources`` would stand for ever, and with it
the nodes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from cluster.amount import Amount, Demand

MOST = 64
"""Wishes at once."""


class Wishes:
    """The wishes that stand."""

    def __init__(self) -> None:
        self._standing: list[tuple[Amount, Any]] = []

    def wish(self, demands: Sequence[Demand]) -> None:
        """Let just these stand, ``MOST`` workers of them, as far as they have no room yet."""
        wanted: Counter[Amount] = Counter()
        for demand in demands:
            wanted[demand.each] += min(demand.count, MOST - wanted.total())
        kept: list[tuple[Amount, Any]] = []
        for each, group in self._standing:
            wanted[each] -= 1
            if wanted[each] >= 0 and not ray.wait([group.ready()], timeout=0)[0]:
                kept.append((each, group))
            else:
                remove_placement_group(group)
        for each, count in wanted.items():
            kept += [(each, placement_group([each.bundle()])) for _ in range(count)]
        self._standing = kept
