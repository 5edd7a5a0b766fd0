"""``train`` over Ray Train: worker groups that stay, and run one job after another.

A group is an actor, ``Group``, inside which ``TorchTrainer.fit()`` runs in a thread. Ray Train starts
the workers, and starts them again when one dies. What they run is ``serve``: draw a job, run its loop,
report, draw the next. Ray Train's own modules, threads and lines of log stay in the group's processes.

Which job is next is decided once a draw for all ranks of a life (a life is one start of the workers):
the rank that asks first fixes it. A job drawn in one life and not ended is drawn again in the next.
"""

import asyncio
import contextlib
import os
import pickle
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayError

from cluster.ledger import Tenant, per_worker
from cluster.outcomes import Died, Done, Failed, Outcome, attempt, settle
from cluster.patience import Patience
from cluster.progress import Part, RemoteWorker, Said
from cluster.resources import Listener, Resources, WorkerDied, Worker
from cluster.shards import MAX_DEATHS, Desk

CLOSE_WITHIN = 10.0
"""Seconds that an idle group gets to end by itself."""
ANSWER_WITHIN = 30.0
"""Seconds after which a worker that says nothing is taken to be alive and busy."""
Config = TypeVar("Config")
Result = TypeVar("Result")

TRAIN_SETTINGS = {
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # an actor a group, of use to loops that read its signal
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every worker
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",  # it hangs where a rank hangs in a collective
}
"""Ray Train reads these from the environment, of the process that calls ``fit`` or of its controller."""


UNUSED = frozenset({"PlacementGroupCleanerCallback", "DatasetsCallback"})
"""Callbacks that would start an actor each. We pass no datasets. The cleaner asks the dashboard, once a
second and in vain where there is none, whether the controller lives; ours is never killed, only stopped or
aborted, and then it clears up itself."""


class Restart(RuntimeError):
    """Raised out of ``serve`` for Ray Train to start the workers again: others may hang in a collective."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job as a rank gets it: its loop and config, and where its progress goes."""

    channel: int
    life: int
    work: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job, and what its workers said of it in the life that ended it."""

    outcome: Outcome
    said: dict[Part, Said]


@dataclass
class _Job:
    """A job in its group."""

    channel: int
    work: bytes
    lives: int = 0
    life: "_Life | None" = None
    reports: dict[int, tuple[Done | Failed, Said]] = field(default_factory=dict)
    ended: "asyncio.Future[Ended]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class _Life:
    """One start of the workers: their handles, and the job that each draw gave."""

    workers: dict[int, Any] = field(default_factory=dict)
    draws: dict[int, tuple[_Job, Assignment]] = field(default_factory=dict)
    broken: bool = False


class Group:
    """The actor that holds a worker group. Asynchronous, holds no CPU itself."""

    def __init__(self, resources: Resources, board: Any, storage: str) -> None:
        self._resources = resources
        self._board = board
        self._storage = storage
        self._job: _Job | None = None
        self._lives: dict[str, _Life] = {}
        self._controller: Any = None
        self._closing = False
        self._changed = asyncio.Condition()

    async def fit(self) -> None:
        """Run the workers. Returns when they have been told to stop, raises when Ray Train gives up."""
        os.environ.update(TRAIN_SETTINGS)
        handle = ray.get_runtime_context().current_actor
        await asyncio.to_thread(_fit, self._resources, handle, self._board, self._storage)

    async def run(self, channel: int, work: bytes) -> Ended:
        """Run one job, in as many lives as it takes."""
        async with self._changed:
            assert self._job is None or self._job.ended.done(), "a group runs one job at a time"
            self._job = job = _Job(channel, work)
            self._changed.notify_all()
        return await job.ended

    async def placed(self) -> None:
        """Answers once the workers run."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._lives))

    async def stop(self) -> None:
        """Let ``serve`` return in all workers."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()

    async def meet(self, controller: Any) -> None:
        """Ray Train's controller makes itself known."""
        async with self._changed:
            self._controller = controller
            self._changed.notify_all()

    async def end(self) -> None:
        """Abort the controller, and with it the workers, whatever they are at."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._controller is not None)
        with contextlib.suppress(RayActorError):  # that it died is its answer
            await self._controller.abort.remote()

    async def draw(self, life: str, number: int, rank: int, worker: Any) -> Assignment | None:
        """The ``number``-th job of this life; None to stop. Waits for one."""
        async with self._changed:
            state = self._lives.setdefault(life, _Life())
            state.workers[rank] = worker
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._closing or self._given(state, number))
            return None if number not in state.draws else state.draws[number][1]

    async def report(self, life: str, number: int, rank: int, outcome: Done | Failed, said: Said) -> None:
        """What a rank made of its job."""
        state = self._lives[life]
        job, given = state.draws[number]
        if job.life is not state:
            return
        if isinstance(outcome, Failed) and self._resources.workers > 1:
            state.broken = True
            if not await _all_alive(state, but=rank):
                return  # the exception is another's death, seen from here; the job is drawn again
        job.reports[rank] = (outcome, said)
        if isinstance(outcome, Failed) or len(job.reports) == self._resources.workers:
            self._end(job, outcome if isinstance(outcome, Failed) else job.reports[0][0], given.life)

    def _given(self, state: _Life, number: int) -> bool:
        """Whether the draw has a job, which it is given now if one waits and this life is whole."""
        if number in state.draws:
            return True
        job = self._job
        if job is None or job.ended.done() or job.life is state or state.broken:
            return False
        job.life = state
        job.lives += 1
        job.reports.clear()
        if job.lives > MAX_DEATHS + 1:
            self._end(job, Died(job.lives - 1), job.lives)
            return False
        state.draws = {number: (job, Assignment(job.channel, job.lives, job.work))}
        return True

    def _end(self, job: _Job, outcome: Outcome, life: int) -> None:
        if not job.ended.done():
            said = {Part(life, rank): said for rank, (_, said) in job.reports.items()}
            job.ended.set_result(Ended(outcome, said))


async def _all_alive(life: _Life, but: int) -> bool:
    """Whether every other worker of this life is alive. A dead one is known within seconds."""
    others = [worker.__ray_ready__.remote() for rank, worker in life.workers.items() if rank != but]
    answers = [asyncio.wait_for(asyncio.wrap_future(ref.future()), ANSWER_WITHIN) for ref in others]
    ended = await asyncio.gather(*answers, return_exceptions=True)
    return not any(isinstance(answer, RayActorError) for answer in ended)


def _fit(resources: Resources, group: Any, board: Any, storage: str) -> None:
    """Start Ray Train and stay until it ends. World size 1 does without torch and a process group."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    bundle: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        bundle["GPU"] = resources.gpus_per_worker
    if resources.memory_per_worker is not None:
        bundle["memory"] = resources.memory_per_worker
    _trainer(resources.workers, group)(
        serve,
        train_loop_config={"group": group, "board": board, "resources": resources},
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=resources.gpus_per_worker > 0, resources_per_worker=bundle
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex, storage_path=storage, failure_config=FailureConfig(max_failures=-1)
        ),
    ).fit()


def _trainer(workers: int, group: Any) -> Any:
    """Ray Train's trainer, less the callbacks we have no use for, and with an introduction to ``group``."""
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    base: Any = DataParallelTrainer
    if workers > 1:
        from ray.train.torch import TorchTrainer

        base = TorchTrainer

    class Introduction(ControllerCallback):  # type: ignore[misc]
        def after_controller_start(self, train_run_context: Any) -> None:
            os.environ.update(TRAIN_SETTINGS)  # in the controller's process
            group.meet.remote(ray.get_runtime_context().current_actor)

    class Trainer(base):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [*(one for one in callbacks if type(one).__name__ not in UNUSED), Introduction()]

    return Trainer


def serve(given: dict[str, Any]) -> None:
    """What each worker runs: job after job, until there is none."""
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    group, resources = given["group"], given["resources"]
    rank, world_size = train.get_context().get_world_rank(), resources.workers
    worker = RemoteWorker(resources.cpus_per_worker, _device(resources), given["board"])
    me = ray.get_runtime_context().current_actor
    life = uuid.uuid4().hex
    if world_size > 1:
        life = broadcast_from_rank_zero(life)
    number = 0
    while True:
        job = ray.get(group.draw.remote(life, number, rank, me))
        if job is None:
            return
        worker.begin(job.channel, Part(job.life, rank), world_size)
        outcome = attempt(lambda: _run(job.work, worker))
        ray.get(group.report.remote(life, number, rank, outcome, worker.end()))
        if isinstance(outcome, Failed) and world_size > 1:
            raise Restart(outcome.summary)
        number += 1


def _run(work: bytes, worker: RemoteWorker) -> Any:
    loop, config = pickle.loads(work)
    return loop(config, worker)


def _device(resources: Resources) -> str:
    if not resources.gpus_per_worker:
        return "cpu"
    from ray.train.torch import get_device

    return str(get_device())


class GroupBody:
    """A group as the ledger's tenant."""

    def __init__(self, resources: Resources, board: Any, storage: str) -> None:
        self.actor = ray.remote(Group).options(num_cpus=0).remote(resources, board, storage)
        self.fit = self.actor.fit.remote()
        self.placed = self.actor.placed.remote()
        self.working = False

    def close(self) -> None:
        """Stop the workers; those at work, or that do not listen, are killed."""
        if not self.working:
            self.actor.stop.remote()
        if self.working or not ray.wait([self.fit], timeout=CLOSE_WITHIN)[0]:
            ray.wait([self.actor.end.remote()], timeout=CLOSE_WITHIN)
        ray.kill(self.actor)


def train_in_group(
    desk: Desk,
    storage: str,
    loop: Callable[[Config, Worker], Result],
    config: Config,
    resources: Resources,
    listener: Listener,
) -> Result:
    """``On.train`` over a worker group, an idle one of the same resources if there is one."""
    run = _Train(desk, storage, cloudpickle.dumps((loop, config)), resources, listener)
    outcome = run.outcome()
    if isinstance(outcome, Died):
        raise WorkerDied(
            f"a training worker died {outcome.deaths} times in one job (memory, or a crash in native code); "
            "the job can go on from its checkpoint"
        )
    result: Result = settle(outcome)
    return result


class _Train:
    """One job, as the driver sees it."""

    def __init__(self, desk: Desk, storage: str, work: bytes, resources: Resources, listener: Listener) -> None:
        self._desk = desk
        self._storage = storage
        self._work = work
        self._resources = resources
        self._listener = listener
        self._patience = Patience(desk.ledger, listener, per_worker(resources), resources.workers)

    def outcome(self) -> Outcome:
        """Run the job; the group is kept for the next one, unless this one was cut off."""
        amount = per_worker(self._resources).times(self._resources.workers)
        tenant = self._desk.ledger.claim(("group", self._resources), amount, 1, lambda _: True)[0]
        channel = self._desk.feed.open(self._listener)
        said: dict[Part, Said] = {}
        try:
            ended = self._run(tenant, channel)
            said = ended.said
        except BaseException:
            self._desk.ledger.discard(tenant)
            raise
        finally:
            self._desk.feed.close(channel, said)
        self._desk.ledger.check_in(tenant)
        return ended.outcome

    def _run(self, tenant: Tenant, channel: int) -> Ended:
        """In a group that holds; a group whose own process is lost is replaced."""
        for _ in range(MAX_DEATHS + 1):
            with self._desk.gate.passing():
                body = self._body(tenant)
                job = body.actor.run.remote(channel, self._work)
            try:
                return self._wait(body, job)
            except RayActorError:
                with self._desk.gate.passing():
                    ray.kill(body.actor)
                tenant.body = None
        return Ended(Died(MAX_DEATHS + 1), {})

    def _body(self, tenant: Tenant) -> GroupBody:
        if tenant.body is None:
            tenant.body = GroupBody(self._resources, self._desk.board, self._storage)
        assert isinstance(tenant.body, GroupBody)
        return tenant.body

    def _wait(self, body: GroupBody, job: Any) -> Ended:
        body.working = True
        while True:
            with self._desk.gate.passing():
                ready, _ = ray.wait([job, body.fit], timeout=1.0)
                if job in ready:
                    body.working = False
                    ended: Ended = ray.get(job)
                    return ended
                if ready:
                    raise RuntimeError(f"the worker group ended by itself: {_why(body.fit)}")
                if not ray.wait([body.placed], timeout=0)[0]:
                    self._patience.tick()


def _why(fit: Any) -> str:
    """One line on how ``fit`` ended; a lost group raises on."""
    try:
        ray.get(fit)
    except RayActorError:
        raise
    except RayError as error:
        return str(error).strip().splitlines()[-1]
    return "it stopped without an error"
