"""``On.train`` over Ray Train, the driver's side: worker groups that are kept, and run one job after another.

They are for trainings by several workers, and for several trainings in one process. A training that has a worker to
itself needs no group (``cluster/train_alone.py``).
"""

import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import remove_placement_group

from cluster.ledger import Tenant
from cluster.outcomes import JobResult, Lost, value_or_raise
from cluster.placement import on_driver_node
from cluster.resources import Listener, Mirror, Resources, Worker
from cluster.stage_process import MAX_DEATHS, SessionParts, pickled
from cluster.train_group import WorkerGroup
from cluster.waiting import RoomWait

Config = TypeVar("Config")
Result = TypeVar("Result")

CLOSE_WITHIN = 10.0
"""Seconds that a group gets to end by itself before it is killed."""


class GroupHandle:
    """The handle of a worker group, as a tenant of the ledger. It runs one job in each slot at a time."""

    def __init__(self, resources: Resources, board: Any, folder: str) -> None:
        """``folder`` is a temporary folder on this machine."""
        actor: Any = ray.remote(WorkerGroup).options(num_cpus=0, scheduling_strategy=on_driver_node())
        self._name = uuid.uuid4().hex
        self._board = board
        self.actor = actor.remote(self._name, resources, board, folder)
        self.fit = self.actor.fit.remote()
        self.ready = self.actor.ready.remote()
        self._jobs: list[Any] = []
        self._lock = threading.Lock()

    def run(self, channel: int, work: bytes) -> Any:
        """Start a job; a reference to its ``JobResult``. May be called from any thread."""
        job = self.actor.run.remote(channel, work)
        with self._lock:
            self._jobs = [*self._running(), job]
        return job

    def close(self) -> None:
        """Stop the workers. Those that are running a job, or do not stop in time, are aborted."""
        with self._lock:
            idle = not self._running()
        if idle:
            self.actor.stop.remote()
        if not idle or not ray.wait([self.fit], timeout=CLOSE_WITHIN)[0]:
            ray.wait([self.actor.abort.remote()], timeout=CLOSE_WITHIN)
        ray.kill(self.actor)
        placements = self._board.placements.remote(self._name)
        if ray.wait([placements], timeout=CLOSE_WITHIN)[0]:
            for placement in ray.get(placements):
                remove_placement_group(placement)  # has an effect only where the controller was killed

    def _running(self) -> list[Any]:
        """References to the results of the jobs that have not ended."""
        return ray.wait(self._jobs, num_returns=len(self._jobs), timeout=0)[1] if self._jobs else []


def train_in_group(
    parts: SessionParts,
    loop: Callable[[Config, Worker], Result],
    config: Config,
    resources: Resources,
    listener: Listener,
    mirror: Mirror | None = None,
) -> Result:
    """``On.train`` in a worker group: one with the same resources that has a free slot if there is one, else a new
    one."""
    work = pickled(loop, config, mirror)
    ended = _Train(parts, resources, listener).run(work)
    result: Result = value_or_raise(ended.outcome, "training")
    return result


class _Train:
    """One call of ``train_in_group``."""

    def __init__(self, parts: SessionParts, resources: Resources, listener: Listener) -> None:
        self._parts = parts
        self._resources = resources
        self._listener = listener
        self._room_wait = RoomWait(parts.ledger, listener, resources.demand, parts.pending)

    def run(self, work: bytes) -> JobResult:
        """Run the job. The group is kept for the next one, unless this one was interrupted, or lost the group. Other
        jobs that run in the group go on."""
        shapes, demand = [("group", self._resources)], self._resources.demand
        with self._parts.ray_calls.running():
            (tenant,) = self._parts.ledger.claim(shapes, demand, 1, lambda _: True, self._room_wait.tick)
        try:
            ended = self._run_until_not_lost(tenant, work)
        except BaseException:
            self._parts.ledger.discard(tenant)
            raise
        if isinstance(ended.outcome, Lost):
            self._parts.ledger.discard(tenant)
        else:
            self._parts.ledger.check_in(tenant)
        return ended

    def _run_until_not_lost(self, tenant: Tenant, work: bytes) -> JobResult:
        """Run the job, in another group whenever the whole group is lost. Lost workers are the group's own business."""
        for _ in range(MAX_DEATHS + 1):
            handle = self._group(tenant)
            ended = self._run_in(handle, work)
            if not isinstance(ended.outcome, Lost):
                break
            self._close_lost(tenant, handle)
        return ended

    def _group(self, tenant: Tenant) -> GroupHandle:
        """The tenant's group, which is started if there is none. Of several jobs that share a tenant one starts it."""
        with tenant.starting, self._parts.ray_calls.running():
            if tenant.handle is None:
                tenant.handle = GroupHandle(self._resources, self._parts.board, self._parts.folder)
            assert isinstance(tenant.handle, GroupHandle)
            return tenant.handle

    def _close_lost(self, tenant: Tenant, lost: GroupHandle) -> None:
        """Close a group that is lost, unless another of its jobs has done so, and perhaps started the next group."""
        with tenant.starting, self._parts.ray_calls.running():
            if tenant.handle is lost:
                lost.close()
                tenant.handle = None

    def _run_in(self, handle: GroupHandle, work: bytes) -> JobResult:
        channel = self._parts.feed.open(self._listener)
        ended = JobResult(Lost("its own process is gone"), {})
        try:
            ended = self._wait(handle, channel, work)
        except RayActorError:
            return ended
        finally:
            self._parts.feed.close(channel, ended.reports)
        return ended

    def _wait(self, handle: GroupHandle, channel: int, work: bytes) -> JobResult:
        """The result of the job. The group gets it when its workers run, so that no job is left behind in a group whose
        workers do not come in time."""
        while not self._ended_within_a_second([handle.ready, handle.fit]):
            with self._parts.ray_calls.running():
                self._room_wait.tick()
        with self._parts.ray_calls.running():
            job = handle.run(channel, work)
        while not self._ended_within_a_second([job]):
            pass
        with self._parts.ray_calls.running():
            ended: JobResult = ray.get(job)
        return ended

    def _ended_within_a_second(self, references: list[Any]) -> bool:
        """Wait for one of them. Each wait is short, since a session that closes waits for the calls that run."""
        with self._parts.ray_calls.running():
            return bool(ray.wait(references, timeout=1.0)[0])
