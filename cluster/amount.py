"""An amount of a cluster: CPUs, GPUs, bytes of memory, and the custom resources that nodes declare."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SLACK = 1e-6
"""Rounding allowed in sums of fractions, so that three thirds of a GPU are a whole one."""


@dataclass(frozen=True, slots=True)
class Amount:
    """The resources of one worker, one node, or several together. ``custom`` has each name once, sorted."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory: float = 0.0
    custom: tuple[tuple[str, float], ...] = ()

    def __add__(self, other: "Amount") -> "Amount":
        mine, theirs = dict(self.custom), dict(other.custom)
        custom = tuple((name, mine.get(name, 0.0) + theirs.get(name, 0.0)) for name in sorted(mine | theirs))
        return Amount(self.cpus + other.cpus, self.gpus + other.gpus, self.memory + other.memory, custom)

    def times(self, count: int) -> "Amount":
        custom = tuple((name, amount * count) for name, amount in self.custom)
        return Amount(self.cpus * count, self.gpus * count, self.memory * count, custom)

    def bundle(self) -> dict[str, float]:
        """Ray's name -> amount, for each that is not 0."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory, **dict(self.custom)}
        return {name: amount for name, amount in amounts.items() if amount}

    def __str__(self) -> str:
        """``2 CPUs, 0.5 GPUs, 8 GB, 1 tpu``."""
        parts = [_counted(self.cpus, "CPU"), _counted(self.gpus, "GPU") if self.gpus else ""]
        parts += [f"{self.memory / 1e9:.3g} GB" if 0 < self.memory < math.inf else ""]
        parts += [f"{amount:g} {name}" for name, amount in self.custom if amount]
        return ", ".join(part for part in parts if part)


def _counted(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Demand:
    """``count`` workers of ``each``. All of a worker is on one node.

    With ``slots`` above 1, it is ``count`` trainings, and so many of them share one worker of ``each``; so do those of
    several demands that are equal but for their count.
    """

    each: Amount
    count: int = 1
    slots: int = 1

    @property
    def workers(self) -> int:
        """The number of workers, where no other demand shares them."""
        return math.ceil(self.count / self.slots)

    def __str__(self) -> str:
        many = self.workers != 1
        return f"{self.workers} worker{'s' if many else ''} of {self.each}{' each' if many else ''}"


def room(node: Amount, each: Amount) -> int:
    """How many workers of ``each`` one empty node holds.

    A fraction of a GPU is taken from a single GPU, and 1 or more are whole GPUs: a GPU holds one worker of 0.75.
    """
    offered = dict(node.custom)
    ratios = [(node.cpus, each.cpus), (node.memory, each.memory)]
    ratios += [(offered.get(name, 0.0), amount) for name, amount in each.custom]
    counts = [_times(have, need) for have, need in ratios if need > 0]
    if 0 < each.gpus < 1:
        whole = int(node.gpus + SLACK)
        counts.append(whole * _times(1.0, each.gpus) + _times(node.gpus - whole, each.gpus))
    elif each.gpus:
        counts.append(_times(node.gpus, each.gpus))
    return min(counts, default=0)


def _times(have: float, need: float) -> int:
    return max(0, math.floor(have / need + SLACK)) if have < math.inf else sys.maxsize


def left_over(nodes: Sequence[Amount], demands: Sequence[Demand]) -> list[Demand]:
    """The workers of these demands that do not fit on the empty nodes together.

    The largest demands are placed first, each worker on the node that has the least left (best fit, decreasing). This
    is exact for workers of one kind. For a mixture it may miss a fit that exists, but never reports one that does not.
    """
    free, found = [_Free(node) for node in sorted(nodes, key=_size)], []
    for demand in sorted(_as_workers(demands), key=lambda demand: _size(demand.each), reverse=True):
        left = demand.count
        for node in free:
            while left and node.take(demand.each):
                left -= 1
        if left:
            found.append(Demand(demand.each, left))
    return found


def packs(nodes: Sequence[Amount], demands: Sequence[Demand]) -> bool:
    """Whether all demands fit on the empty nodes together."""
    return not left_over(nodes, demands)


def _as_workers(demands: Sequence[Demand]) -> list[Demand]:
    """The same demands as workers: trainings that may share a worker are counted together."""
    trainings: Counter[tuple[Amount, int]] = Counter()
    for demand in demands:
        if demand.slots > 1:
            trainings[demand.each, demand.slots] += demand.count
    shared = [Demand(each, Demand(each, count, slots).workers) for (each, slots), count in trainings.items()]
    return [demand for demand in demands if demand.slots == 1] + shared


def _size(amount: Amount) -> tuple[float, float, float]:
    return amount.gpus, amount.cpus, amount.memory


class _Free:
    """What is left of a node. ``gpus`` holds the free fraction of each GPU."""

    def __init__(self, node: Amount) -> None:
        whole = int(node.gpus + SLACK)
        self.rest = {"CPU": node.cpus, "memory": node.memory, **dict(node.custom)}
        self.gpus = [1.0] * whole + ([node.gpus - whole] if node.gpus - whole > SLACK else [])

    def take(self, each: Amount) -> bool:
        """Place a worker here if it fits. Returns whether it did."""
        wanted = {"CPU": each.cpus, "memory": each.memory, **dict(each.custom)}
        if any(amount > self.rest.get(name, 0.0) + SLACK for name, amount in wanted.items()):
            return False
        if not self._take_gpus(each.gpus):
            return False
        for name, amount in wanted.items():
            if amount:
                self.rest[name] -= amount
        return True

    def _take_gpus(self, wanted: float) -> bool:
        if not wanted:
            return True
        if wanted < 1:
            fitting = [gpu for gpu in self.gpus if gpu + SLACK >= wanted]
            if fitting:
                tightest = min(fitting)
                self.gpus[self.gpus.index(tightest)] = tightest - wanted
            return bool(fitting)
        whole = [gpu for gpu in self.gpus if gpu + SLACK >= 1]
        if len(whole) + SLACK < wanted:
            return False
        for gpu in whole[: math.ceil(wanted - SLACK)]:
            self.gpus.remove(gpu)
        return True
