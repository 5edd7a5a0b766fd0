"""``On.train`` by one worker: a training runs in a process that also serves maps, of which some may be idle.

Ray Train starts five processes for a group, and keeps four of them beside the worker. A single worker needs no process
group, so that the driver does what is left to do: it starts the process, and starts it again when it dies.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import ray

from cluster.ledger import Tenant
from cluster.outcomes import Died, JobResult, Lost, Outcome, value_or_raise
from cluster.resources import Listener, Mirror, Resources, Worker
from cluster.stage_process import MAX_DEATHS, ProcessHandle, SessionParts, pickled, process_shape, result_of
from cluster.waiting import RoomWait

Config = TypeVar("Config")
Result = TypeVar("Result")


def train_alone(
    parts: SessionParts,
    loop: Callable[[Config, Worker], Result],
    config: Config,
    resources: Resources,
    listener: Listener,
    mirror: Mirror | None = None,
) -> Result:
    """``On.train`` for one worker with ``resources``: in an idle process of these resources if there is one, else in a
    new one."""
    outcome = _LoneTraining(parts, pickled(loop, config, mirror), resources, listener).outcome()
    result: Result = value_or_raise(outcome, "training")
    return result


class _LoneTraining:
    """One call of ``train_alone``."""

    def __init__(self, parts: SessionParts, work: bytes, resources: Resources, listener: Listener) -> None:
        self._parts = parts
        self._work = work
        self._resources = resources
        self._listener = listener
        self._room_wait = RoomWait(parts.ledger, listener, resources.demand, parts.pending)

    def outcome(self) -> Outcome:
        """Run the training, again whenever its process dies, ``MAX_DEATHS`` times at most. The process is kept for
        later work, unless the training was interrupted."""
        shapes, demand = [process_shape(self._resources)], self._resources.demand
        with self._parts.ray_calls.running():
            (tenant,) = self._parts.ledger.claim(shapes, demand, 1, lambda _: True, self._room_wait.tick)
        try:
            for _ in range(MAX_DEATHS + 1):
                outcome = self._attempt(tenant)
                if not isinstance(outcome, Lost):
                    self._parts.ledger.check_in(tenant)
                    return outcome
        except BaseException:
            self._parts.ledger.discard(tenant)
            raise
        self._parts.ledger.discard(tenant)
        return Died(MAX_DEATHS + 1)

    def _attempt(self, tenant: Tenant) -> Outcome:
        """Run the training in the tenant's process, which is started if there is none. A process that died is
        closed."""
        with self._parts.ray_calls.running():
            if tenant.handle is None:
                tenant.handle = ProcessHandle(self._resources, self._parts.board)
            handle = tenant.handle
            assert isinstance(handle, ProcessHandle)
        outcome = self._outcome_in(handle)
        if isinstance(outcome, Lost):
            with self._parts.ray_calls.running():
                handle.close()
                tenant.handle = None
        return outcome

    def _outcome_in(self, handle: ProcessHandle) -> Outcome:
        """The training is given to a process that runs, so that none is left behind in one that is placed too late."""
        while not self._ended_within_a_second(handle.ready):
            with self._parts.ray_calls.running():
                self._room_wait.tick()
        channel = self._parts.feed.open(self._listener)
        ended = JobResult(Lost("it was interrupted"), {})
        try:
            with self._parts.ray_calls.running():
                job = handle.train(channel, self._work)
            while not self._ended_within_a_second(job):
                pass
            with self._parts.ray_calls.running():
                ended = result_of(job)
        finally:
            self._parts.feed.close(channel, ended.reports)
        return ended.outcome

    def _ended_within_a_second(self, reference: Any) -> bool:
        """Wait for it. Each wait is short, since a session that closes waits for the calls that run."""
        with self._parts.ray_calls.running():
            return bool(ray.wait([reference], timeout=1.0)[0])
