"""The cluster's side of training: an actor that holds a worker group of Ray Train, and what its workers run.

``TorchTrainer.fit()`` runs in a thread of the actor ``WorkerGroup``. Ray Train starts the workers, and starts
them again when one dies. What they run is ``serve``: draw a job, run its loop, report, draw the next. Ray
Train's own modules, threads and lines of log stay in these processes.

Which job is next is decided once a draw for all ranks of a life (a life is one start of the workers):
the rank that asks first fixes it. A job drawn in one life and not ended is drawn again in the next.
"""

import asyncio
import contextlib
import os
import pickle
import tempfile
import uuid
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import get_current_placement_group

from cluster.mirroring import mirrored
from cluster.outcomes import Died, Done, Ended, Failed, Lost, Outcome, WorkerId, WorkerReport, attempt
from cluster.progress import RemoteWorker
from cluster.ray_internals import TRAIN_SETTINGS, abort_controller, ready, trainer_class
from cluster.resources import Resources, Worker
from cluster.shards import MAX_DEATHS, Bench

ANSWER_WITHIN = 30.0
"""Seconds after which a worker that says nothing is taken to be alive and busy."""


class Restart(RuntimeError):
    """Raised out of ``serve`` for Ray Train to start the workers again: others may hang in a collective."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job as a rank gets it: its loop and config, and where its progress goes."""

    channel: int
    life: int
    work: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What a worker group knows: its name, its actor, the board, and what each worker has."""

    name: str
    group: Any
    board: Any
    resources: Resources


@dataclass
class _Life:
    """One start of the workers: their handles, and the job that its newest draw gave."""

    workers: dict[int, Any] = field(default_factory=dict)
    draws: dict[int, tuple["_Job", Assignment]] = field(default_factory=dict)
    broken: bool = False


@dataclass
class _Job:
    """A job in its group."""

    channel: int
    work: bytes
    lives: int = 0
    life: _Life | None = None
    reports: dict[int, tuple[Done | Failed, WorkerReport]] = field(default_factory=dict)
    ended: "asyncio.Future[Ended]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, outcome: Outcome, life: int) -> None:
        if not self.ended.done():
            said = {WorkerId(life, rank): said for rank, (_, said) in self.reports.items()}
            self.ended.set_result(Ended(outcome, said))


class WorkerGroup:
    """The actor. Asynchronous, holds no CPU itself."""

    def __init__(self, name: str, resources: Resources, board: Any) -> None:
        self._name = name
        self._resources = resources
        self._board = board
        self._controller: Any = None
        self._job: _Job | None = None
        self._lives: dict[str, _Life] = {}
        self._closing = False
        self._lost: Lost | None = None
        self._changed = asyncio.Condition()

    async def fit(self) -> None:
        """Run the workers until they are told to stop, or Ray Train gives up."""
        os.environ.update(TRAIN_SETTINGS)
        given = Given(self._name, ray.get_runtime_context().current_actor, self._board, self._resources)
        try:
            await asyncio.to_thread(_fit, given)
            self._lost = Lost("the group has stopped")
        except Exception as error:  # for the job that waits, and for those to come
            self._lost = Lost(str(error).strip().splitlines()[-1])
        if self._job is not None:
            self._job.end(self._lost, self._job.lives)

    async def run(self, channel: int, work: bytes) -> Ended:
        """Run one job, in as many lives as it takes."""
        if self._lost is not None:
            return Ended(self._lost, {})
        async with self._changed:
            assert self._job is None or self._job.ended.done(), "a group runs one job at a time"
            self._job = job = _Job(channel, work)
            self._changed.notify_all()
        return await job.ended

    async def ready(self) -> None:
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

    async def abort(self) -> None:
        """Abort the controller, and with it the workers, whatever they are at."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._controller is not None)
        with contextlib.suppress(RayActorError):  # that it died is its answer
            await abort_controller(self._controller)

    async def draw(self, life: str, number: int, rank: int, worker: Any) -> Assignment | None:
        """The ``number``-th job of this life; None to stop. Waits for one."""
        async with self._changed:
            state = self._lives.setdefault(life, _Life())
            state.workers[rank] = worker
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._closing or self._given(state, number))
            return state.draws[number][1] if number in state.draws else None

    async def report(self, life: str, number: int, rank: int, outcome: Done | Failed, said: WorkerReport) -> None:
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
        if isinstance(outcome, Failed):
            job.end(outcome, given.life)
        elif len(job.reports) == self._resources.workers:
            job.end(job.reports[0][0], given.life)

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
            job.end(Died(job.lives - 1), job.lives)
            return False
        state.draws = {number: (job, Assignment(job.channel, job.lives, job.work))}
        return True


async def _all_alive(life: _Life, but: int) -> bool:
    """Whether every other worker of this life is alive. A dead one is known within seconds."""
    others = [ready(worker) for rank, worker in life.workers.items() if rank != but]
    answers = [asyncio.wait_for(asyncio.wrap_future(ref.future()), ANSWER_WITHIN) for ref in others]
    ended = await asyncio.gather(*answers, return_exceptions=True)
    return not any(isinstance(answer, RayActorError) for answer in ended)


def _fit(given: Given) -> None:
    """Start Ray Train and stay until it ends.

    Ray Train wants a storage that all nodes share. Nothing is kept there: results and checkpoints go where the loop
    writes them. So it gets a folder of this machine, where its controller, which alone looks there, runs too.
    """
    with tempfile.TemporaryDirectory(prefix="stillhouse-train-") as storage:
        _trained(given, storage)


def _trained(given: Given, storage: str) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    resources, group = given.resources, given.group

    def introduce() -> None:
        os.environ.update(TRAIN_SETTINGS)  # in the controller's process
        group.meet.remote(ray.get_runtime_context().current_actor)

    trainer = trainer_class(resources.workers, introduce)(
        serve,
        train_loop_config={"given": given},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.each.bundle(),
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex, storage_path=storage, failure_config=FailureConfig(max_failures=-1)
        ),
        **_backend(resources),
    )
    trainer.fit()


def _backend(resources: Resources) -> dict[str, Any]:
    """Workers that share a GPU talk over gloo: NCCL wants a GPU for each. For others Ray Train's choice is right."""
    if resources.workers == 1 or not 0 < resources.gpus_per_worker < 1:
        return {}
    from ray.train.torch import TorchConfig

    return {"torch_config": TorchConfig(backend="gloo")}


def serve(config: dict[str, Any]) -> None:
    """What each worker runs: job after job, until there is none."""
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    given: Given = config["given"]
    group, resources = given.group, given.resources
    rank, world_size = train.get_context().get_world_rank(), resources.workers
    worker = RemoteWorker(resources.cpus_per_worker, _device(resources), given.board)
    me = ray.get_runtime_context().current_actor
    if rank == 0:
        ray.get(given.board.note_placement.remote(given.name, get_current_placement_group()))
    life = uuid.uuid4().hex
    if world_size > 1:
        life = broadcast_from_rank_zero(life)
    number = 0
    while (job := ray.get(group.draw.remote(life, number, rank, me))) is not None:
        worker.begin(job.channel, WorkerId(job.life, rank), world_size)
        outcome = _outcome(job.work, worker)
        ray.get(group.report.remote(life, number, rank, outcome, worker.end()))
        if isinstance(outcome, Failed) and world_size > 1:
            raise Restart(outcome.summary)
        number += 1


BENCH = Bench()
"""What this worker process has open of a map."""


def do_item(config: tuple[bytes, bytes, bytes], worker: Worker) -> Any:
    """The loop of a job that is an item of a map: (key, opening, item)."""
    return BENCH.do(worker, *config)


def _outcome(work: bytes, worker: RemoteWorker) -> Done | Failed:
    def run() -> Any:
        loop, config, mirror = pickle.loads(work)
        if loop is not do_item:
            BENCH.clear()  # its models make room
        with mirrored(mirror):
            return loop(config, worker)

    return attempt(run)


def _device(resources: Resources) -> str:
    if not resources.gpus_per_worker:
        return "cpu"
    from ray.train.torch import get_device

    return str(get_device())
