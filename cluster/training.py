"""``train`` over Ray Train: worker groups that stay, and run one job after another."""

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.util.placement_group import remove_placement_group

from cluster.beside import beside_the_driver
from cluster.group import WorkerGroup, do_item
from cluster.ledger import Tenant
from cluster.outcomes import Ended, Lost, settle
from cluster.patience import Patience
from cluster.resources import Listener, Mirror, Resources, Worker
from cluster.shards import MAX_DEATHS, Desk, Post, group_shape

Config = TypeVar("Config")
Result = TypeVar("Result")

CLOSE_WITHIN = 10.0
"""Seconds that a group gets to end by itself."""


class GroupBody:
    """A group as the ledger's tenant. It does jobs, and, if it is one worker, the items of a map."""

    def __init__(self, resources: Resources, board: Any) -> None:
        actor: Any = ray.remote(WorkerGroup).options(num_cpus=0, scheduling_strategy=beside_the_driver())
        self.key = b""
        self._name = uuid.uuid4().hex
        self._board = board
        self.actor = actor.remote(self._name, resources, board)
        self.fit = self.actor.fit.remote()
        self.ready = self.actor.ready.remote()
        self._job: Any = None

    def run(self, channel: int, work: bytes) -> Any:
        """A reference to the job's ``Ended``."""
        self._job = self.actor.run.remote(channel, work)
        return self._job

    def submit(self, post: Post, key: bytes, opening: bytes, item: bytes) -> Any:
        return self.run(post.channel, cloudpickle.dumps((do_item, (key, opening, item), None)))

    def close(self) -> None:
        """Stop the workers; abort them where they are at work or do not listen."""
        idle = self._job is None or bool(ray.wait([self._job], timeout=0)[0])
        if idle:
            self.actor.stop.remote()
        if not idle or not ray.wait([self.fit], timeout=CLOSE_WITHIN)[0]:
            ray.wait([self.actor.abort.remote()], timeout=CLOSE_WITHIN)
        ray.kill(self.actor)
        placements = self._board.placements.remote(self._name)
        if ray.wait([placements], timeout=CLOSE_WITHIN)[0]:
            for placement in ray.get(placements):
                remove_placement_group(placement)  # of no effect, unless the controller was killed


def train_in_group(
    desk: Desk,
    loop: Callable[[Config, Worker], Result],
    config: Config,
    resources: Resources,
    listener: Listener,
    mirror: Mirror | None = None,
) -> Result:
    """``On.train`` over a worker group, an idle one of the same resources if there is one."""
    work = cloudpickle.dumps((loop, config, mirror))
    ended = _Train(desk, resources, listener).run(work)
    result: Result = settle(ended.outcome, "training")
    return result


class _Train:
    """One job, as the driver sees it."""

    def __init__(self, desk: Desk, resources: Resources, listener: Listener) -> None:
        self._desk = desk
        self._resources = resources
        self._listener = listener
        self._patience = Patience(desk.ledger, listener, resources.demand, desk.pending)

    def run(self, work: bytes) -> Ended:
        """Run the job; the group is kept for the next one, unless this one was cut off."""
        shapes, demand = [group_shape(self._resources)], self._resources.demand
        with self._desk.gate.passing():
            (tenant,) = self._desk.ledger.claim(shapes, demand, 1, lambda _: True, self._patience.tick)
        try:
            ended = self._in_a_group_that_holds(tenant, work)
        except BaseException:
            self._desk.ledger.discard(tenant)
            raise
        if tenant.body is None:
            self._desk.ledger.discard(tenant)
        else:
            self._desk.ledger.check_in(tenant)
        return ended

    def _in_a_group_that_holds(self, tenant: Tenant, work: bytes) -> Ended:
        """A group that is lost, not just workers of it, is replaced."""
        for _ in range(MAX_DEATHS + 1):
            if tenant.body is None:
                with self._desk.gate.passing():
                    tenant.body = GroupBody(self._resources, self._desk.board)
            assert isinstance(tenant.body, GroupBody)
            ended = self._in(tenant.body, work)
            if not isinstance(ended.outcome, Lost):
                break
            with self._desk.gate.passing():
                tenant.body.close()
                tenant.body = None
        return ended

    def _in(self, body: GroupBody, work: bytes) -> Ended:
        channel = self._desk.feed.open(self._listener)
        ended = Ended(Lost("its own process is gone"), {})
        try:
            ended = self._wait(body, channel, work)
        except RayActorError:
            return ended
        finally:
            self._desk.feed.close(channel, ended.said)
        return ended

    def _wait(self, body: GroupBody, channel: int, work: bytes) -> Ended:
        with self._desk.gate.passing():
            job = body.run(channel, work)
        while True:
            with self._desk.gate.passing():
                if ray.wait([job], timeout=1.0)[0]:
                    ended: Ended = ray.get(job)
                    return ended
                if not ray.wait([body.ready], timeout=0)[0]:
                    self._patience.tick()
