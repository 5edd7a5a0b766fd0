"""The cluster's side of training: an actor that holds a worker group of Ray Train, and what its workers run.

``TorchTrainer.fit()`` runs in a thread of the actor ``WorkerGroup``. Ray Train starts the workers, and starts them
again when one dies. Each worker runs ``run_jobs``: take a job, run its loop, report the outcome, take the next. Ray
Train's own modules, threads and log lines stay in these processes.

A group of one worker may have several slots: threads of the worker that each take job after job, so that as many
trainings run at the same time in one process. A group of several workers has one slot.

One start of all workers is called a generation. Within a generation, the jobs of a slot are numbered, and the first
rank that asks for a number decides for all ranks which job that is. A job that a generation did not finish is given to
the next one.
"""

import asyncio
import contextlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import get_current_placement_group

from cluster.outcomes import Died, Done, Failed, JobResult, Lost, Outcome, WorkerId, WorkerReport, outcome_of
from cluster.progress import RemoteWorker
from cluster.ray_internals import TRAIN_SETTINGS, abort_controller, ready, trainer_class
from cluster.resources import Resources
from cluster.stage_process import MAX_DEATHS, run_loop

ANSWER_WITHIN = 30.0
"""Seconds after which a worker that does not answer is taken to be alive and busy."""


class Restart(RuntimeError):
    """Raised out of ``run_jobs``, so that Ray Train starts all workers again: other ranks may hang in a collective."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job as each rank gets it: ``work`` is the pickled (loop, config, mirror), ``channel`` where its progress
    goes."""

    channel: int
    generation: int
    work: bytes


class JobNumber(NamedTuple):
    """The ``number``-th job of a slot in one generation, from 0."""

    slot: int
    number: int

    def following(self) -> "JobNumber":
        return JobNumber(self.slot, self.number + 1)


@dataclass(frozen=True, slots=True)
class GroupContext:
    """What each worker of a group is given: the group's name and actor, the progress board, its resources, and a folder
    on the driver's machine."""

    name: str
    group: Any
    board: Any
    resources: Resources
    folder: str


@dataclass
class _Generation:
    """One start of the workers. ``assigned`` holds only the newest number of each slot; ``broken`` means that a rank
    has failed."""

    workers: dict[int, Any] = field(default_factory=dict)
    assigned: dict[JobNumber, tuple["_Job", Assignment]] = field(default_factory=dict)
    broken: bool = False

    def assign(self, number: JobNumber, job: "_Job", assignment: Assignment) -> None:
        self.assigned = {other: pair for other, pair in self.assigned.items() if other.slot != number.slot}
        self.assigned[number] = (job, assignment)


@dataclass
class _Job:
    """A job in its group, ``generation`` being the last that got it, ``generations`` how many have."""

    channel: int
    work: bytes
    generations: int = 0
    generation: _Generation | None = None
    reports: dict[int, tuple[Done | Failed, WorkerReport]] = field(default_factory=dict)
    ended: "asyncio.Future[JobResult]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, outcome: Outcome, generation: int) -> None:
        if not self.ended.done():
            reports = {WorkerId(generation, rank): report for rank, (_, report) in self.reports.items()}
            self.ended.set_result(JobResult(outcome, reports))


class WorkerGroup:
    """The actor that leads a group. It is asynchronous and holds no CPU."""

    def __init__(self, name: str, resources: Resources, board: Any, folder: str = "") -> None:
        self._name = name
        self._resources = resources
        self._board = board
        self._folder = folder
        self._controller: Any = None
        self._jobs: list[_Job] = []
        self._generations: dict[str, _Generation] = {}
        self._closing = False
        self._lost: Lost | None = None
        self._changed = asyncio.Condition()

    async def fit(self) -> None:
        """Run the workers until ``stop`` is called or Ray Train gives up."""
        os.environ.update(TRAIN_SETTINGS)
        actor = ray.get_runtime_context().current_actor
        context = GroupContext(self._name, actor, self._board, self._resources, self._folder)
        try:
            await asyncio.to_thread(_fit, context)
            self._lost = Lost("the group has stopped")
        except Exception as error:  # raised in the driver, for the present job and for later ones
            self._lost = Lost(str(error).strip().splitlines()[-1])
        for job in self._jobs:
            job.end(self._lost, job.generations)

    async def run(self, channel: int, work: bytes) -> JobResult:
        """Run one job, in as many generations as it takes. Returns its outcome and the workers' reports."""
        if self._lost is not None:
            return JobResult(self._lost, {})
        async with self._changed:
            self._jobs = [job for job in self._jobs if not job.ended.done()]
            slots = self._resources.trainings_per_worker
            assert len(self._jobs) < slots, f"a group of {slots} slots runs no more jobs at a time"
            job = _Job(channel, work)
            self._jobs.append(job)
            self._changed.notify_all()
        return await job.ended

    async def ready(self) -> None:
        """Return when the workers run."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._generations))

    async def stop(self) -> None:
        """Make ``run_jobs`` return in all workers."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()

    async def set_controller(self, controller: Any) -> None:
        """Keep the handle of Ray Train's controller, which calls this when it starts."""
        async with self._changed:
            self._controller = controller
            self._changed.notify_all()

    async def abort(self) -> None:
        """End the controller and the workers, whatever they are doing."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._controller is not None)
        with contextlib.suppress(RayActorError):  # it ends before it can answer
            await abort_controller(self._controller)

    async def next_job(self, generation: str, number: JobNumber, rank: int, worker: Any) -> Assignment | None:
        """Wait for the job with this number in this generation and return it; None when the worker is to stop."""
        async with self._changed:
            state = self._generations.setdefault(generation, _Generation())
            state.workers[rank] = worker
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._closing or self._assign(state, number))
            return state.assigned[number][1] if number in state.assigned else None

    async def report(
        self, generation: str, number: JobNumber, rank: int, outcome: Done | Failed, report: WorkerReport
    ) -> None:
        """Take in a rank's outcome and its report. The job ends with the first failure, or when all ranks are done."""
        state = self._generations[generation]
        job, assignment = state.assigned[number]
        if job.generation is not state:
            return  # the job was given to a later generation
        if isinstance(outcome, Failed) and self._resources.workers > 1:
            state.broken = True
            if not await _all_alive(state, but=rank):
                return  # another rank's death caused the exception; the next generation gets the job
        job.reports[rank] = (outcome, report)
        if isinstance(outcome, Failed):
            job.end(outcome, assignment.generation)
        elif len(job.reports) == self._resources.workers:
            job.end(job.reports[0][0], assignment.generation)

    def _assign(self, state: _Generation, number: JobNumber) -> bool:
        """Whether this number has a job. A job that waits is assigned to it, unless a rank of the generation failed."""
        if number in state.assigned:
            return True
        if state.broken:
            return False
        for job in self._jobs:
            if job.ended.done() or job.generation is state:
                continue
            job.generation = state
            job.generations += 1
            job.reports.clear()
            if job.generations <= MAX_DEATHS + 1:
                state.assign(number, job, Assignment(job.channel, job.generations, job.work))
                return True
            job.end(Died(job.generations - 1), job.generations)
        return False


async def _all_alive(generation: _Generation, but: int) -> bool:
    """Whether every worker of the generation but this rank is alive. Ray knows of a death within seconds."""
    others = [ready(worker) for rank, worker in generation.workers.items() if rank != but]
    answers = [asyncio.wait_for(asyncio.wrap_future(ref.future()), ANSWER_WITHIN) for ref in others]
    ended = await asyncio.gather(*answers, return_exceptions=True)
    return not any(isinstance(answer, RayActorError) for answer in ended)


def _fit(context: GroupContext) -> None:
    """Start Ray Train and return when it ends.

    Ray Train requires a storage that all nodes share. Nothing is kept in it: results and checkpoints go where the loop
    writes them. So it gets the session's temporary folder on this machine, since its controller, which alone reads it,
    runs here.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    resources, group = context.resources, context.group

    def announce_controller() -> None:
        os.environ.update(TRAIN_SETTINGS)  # in the controller's process
        group.set_controller.remote(ray.get_runtime_context().current_actor)

    trainer = trainer_class(resources.workers, announce_controller)(
        run_jobs,
        train_loop_config={"context": context},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.each.bundle(),
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex, storage_path=context.folder, failure_config=FailureConfig(max_failures=-1)
        ),
        **_backend(resources),
    )
    trainer.fit()


def _backend(resources: Resources) -> dict[str, Any]:
    """Options of the trainer: gloo for workers that share a GPU, as NCCL needs a GPU for each; else the default."""
    if resources.workers == 1 or not 0 < resources.gpus_per_worker < 1:
        return {}
    from ray.train.torch import TorchConfig

    return {"torch_config": TorchConfig(backend="gloo")}


def run_jobs(config: dict[str, Any]) -> None:
    """The loop of each worker: run job after job in each slot, until the group is stopped."""
    from ray import train
    from ray.train.collective import broadcast_from_rank_zero

    context: GroupContext = config["context"]
    resources = context.resources
    rank, device = train.get_context().get_world_rank(), _device(resources)
    actor = ray.get_runtime_context().current_actor
    if rank == 0:
        ray.get(context.board.note_placement.remote(context.name, get_current_placement_group()))
    generation = uuid.uuid4().hex
    if resources.workers > 1:
        generation = broadcast_from_rank_zero(generation)

    def run_slot(slot: int) -> None:
        worker = RemoteWorker(resources.cpus_per_worker, device, context.board)
        _run_slot(context, generation, slot, rank, worker, actor)

    if resources.trainings_per_worker == 1:
        run_slot(0)
        return
    threads = ThreadPoolExecutor(resources.trainings_per_worker, thread_name_prefix="training")
    slots = [threads.submit(run_slot, slot) for slot in range(resources.trainings_per_worker)]
    for ended in as_completed(slots):
        ended.result()  # raises without waiting for the other slots: Ray Train then starts the process again


def _run_slot(context: GroupContext, generation: str, slot: int, rank: int, worker: RemoteWorker, actor: Any) -> None:
    """Run job after job of one slot, until the group is stopped. ``actor`` is the handle of this process."""
    group, world_size = context.group, context.resources.workers
    number = JobNumber(slot, 0)
    while (job := ray.get(group.next_job.remote(generation, number, rank, actor))) is not None:
        worker.begin(job.channel, WorkerId(job.generation, rank), world_size)
        outcome = outcome_of(partial(run_loop, job.work, worker))
        ray.get(group.report.remote(generation, number, rank, outcome, worker.end()))
        if isinstance(outcome, Failed) and world_size > 1:
            raise Restart(outcome.summary)
        number = number.following()


def _device(resources: Resources) -> str:
    if not resources.gpus_per_worker:
        return "cpu"
    from ray.train.torch import get_device

    return str(get_device())
