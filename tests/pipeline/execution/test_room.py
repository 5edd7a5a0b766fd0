"""Who starts beside what runs, and who gives up workers, without anything to run."""

from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.amount import Amount
from cluster.resources import Capacity, Resources
from cluster.share import WorkerShare
from pipeline.execution.room import Room, RunningStage
from pipeline.execution.scheduler import StepResources
from pipeline.graph.nodes import ExternalInput, Node, Quantity
from pipeline.plan.planner import Step
from pipeline.plan.urgency import EVALUATIONS, WITH_CANDIDATES, WITHOUT_CANDIDATES, Urgency
from stages.specs.evaluation import EvaluateSpec

MAPS = ExitStack()
"""Holds the maps of the tests open."""
ONE = Resources()
ONE_CPU = StepResources(ONE, ONE)
EVALUATION = Urgency(EVALUATIONS, 8, 0, 0)
STUDENT = Urgency(WITHOUT_CANDIDATES, 7, 0, 1)
EMBEDDING = Urgency(WITH_CANDIDATES, 2, 0, 2)


def running(room: Room, urgency: Urgency, workers: int, mapping: bool, wanted: Resources | None = None) -> WorkerShare:
    """Let a stage run with all of its workers, of one CPU each unless ``wanted`` is given; in a map, it holds them."""
    name = f"node {len(room.running)}"
    node = Node(name, "embed", "", EvaluateSpec(), {"own": ExternalInput(name, Path(name), name)})
    step = Step(node, "build", "never built", Quantity.exact(1), Quantity.exact(1))
    share = WorkerShare(workers)
    if mapping:
        MAPS.enter_context(share.mapping())
        share.take(workers)
    room.running[Future()] = RunningStage(step, wanted or Resources(workers=workers), share, urgency)
    return share


@pytest.fixture
def room() -> Room:
    room = Room(concurrent=True)
    look(room)
    return room


def look(room: Room, cpus: float = 4.0) -> None:
    room.begin(Capacity.fixed(Amount(cpus)))


def test_a_map_gives_up_as_many_workers_as_a_more_urgent_stage_needs_and_gets_them_back(room: Room) -> None:
    embedding = running(room, EMBEDDING, 4, mapping=True)
    assert not room.fits(STUDENT, ONE_CPU)
    assert (embedding.granted, embedding.taken) == (3, 4), "its fourth worker has to end an item"
    look(room)
    assert not room.fits(STUDENT, ONE_CPU)
    assert embedding.granted == 3, "no more than is needed"
    assert embedding.give_up_one()
    look(room)
    assert room.fits(STUDENT, ONE_CPU)
    running(room, STUDENT, 1, mapping=False)
    room.enlarge()
    assert embedding.granted == 3
    room.running.popitem()
    look(room)
    room.enlarge()
    assert embedding.granted == 4


def test_a_map_may_give_up_all_of_its_workers(room: Room) -> None:
    embedding = running(room, EMBEDDING, 1, mapping=True)
    look(room, cpus=1.0)
    assert not room.fits(STUDENT, ONE_CPU)
    assert embedding.give_up_one()
    look(room, cpus=1.0)
    assert room.fits(STUDENT, ONE_CPU)
    assert embedding.taken == 0


def test_what_is_given_up_is_kept_for_the_stage_that_needs_it(room: Room) -> None:
    embedding = running(room, EMBEDDING, 4, mapping=True)
    two = Resources(cpus_per_worker=2)
    assert not room.fits(STUDENT, StepResources(two, two))
    assert embedding.granted == 2
    assert embedding.give_up_one()
    look(room)
    assert not room.fits(STUDENT, StepResources(two, two))
    assert not room.fits(EMBEDDING, ONE_CPU), "the CPU that is free by now waits for the second one"
    assert embedding.give_up_one()
    look(room)
    assert room.fits(STUDENT, StepResources(two, two))


def test_nothing_is_given_up_where_that_would_not_make_room(room: Room) -> None:
    running(room, STUDENT, 3, mapping=False)
    embedding = running(room, EMBEDDING, 1, mapping=True)
    two = Resources(cpus_per_worker=2)
    assert not room.fits(EVALUATION, StepResources(two, two))
    assert embedding.granted == 1


def test_no_stage_gives_up_workers_for_a_node_for_which_no_room_may_be_made(room: Room) -> None:
    embedding = running(room, EMBEDDING, 4, mapping=True)
    assert not room.fits(STUDENT, ONE_CPU, lambda: False)
    assert embedding.granted == 4
    assert not room.fits(STUDENT, ONE_CPU, lambda: True)
    assert embedding.granted == 3


def test_a_stage_that_lacks_a_worker_has_one_reserved_once_however_many_nodes_are_offered(room: Room) -> None:
    embedding = running(room, EMBEDDING, 3, mapping=True)
    teaching = running(room, STUDENT, 2, mapping=True)
    teaching.grant(1)
    assert teaching.give_up_one()
    for cpus in (4, 5, 6):
        large = Resources(cpus_per_worker=cpus)
        assert not room.fits(EMBEDDING, StepResources(large, large))
    room.enlarge()
    assert embedding.granted == 2, "one worker for the one that the other stage lacks"


def test_a_training_and_a_stage_of_the_same_group_give_up_nothing(room: Room) -> None:
    training = running(room, EMBEDDING, 2, mapping=False)
    teaching = running(room, STUDENT, 2, mapping=True)
    assert not room.fits(STUDENT, ONE_CPU)
    assert (training.granted, teaching.granted) == (2, 2)
    assert not room.fits(EVALUATION, ONE_CPU)
    assert (training.granted, teaching.granted) == (2, 1)


def test_a_stage_of_many_workers_may_start_with_those_that_fit(room: Room) -> None:
    running(room, STUDENT, 1, mapping=False)
    eight = Resources(workers=8)
    assert room.fits(EMBEDDING, StepResources(eight, ONE))
    assert room.workers_that_fit(eight) == 3


def test_where_one_stage_runs_at_a_time_nothing_is_given_up() -> None:
    alone = Room(concurrent=False)
    look(alone)
    assert alone.fits(EMBEDDING, ONE_CPU)
    embedding = running(alone, EMBEDDING, 1, mapping=True)
    assert not alone.fits(EVALUATION, ONE_CPU)
    assert embedding.granted == 1


def test_a_training_fits_where_a_worker_that_it_may_share_has_a_free_slot(room: Room) -> None:
    shared = Resources(cpus_per_worker=3, trainings_per_worker=3)
    shape = StepResources(shared, shared)
    for _ in range(3):
        assert room.fits(STUDENT, shape)
        running(room, STUDENT, 1, mapping=False, wanted=shared)
    assert not room.fits(STUDENT, shape), "there is no room for a second worker"
    other = Resources(cpus_per_worker=3, trainings_per_worker=2)
    assert not room.fits(STUDENT, StepResources(other, other))
    assert room.fits(EVALUATION, ONE_CPU)
    room.running.popitem()
    assert room.fits(STUDENT, shape)
    assert not room.fits(STUDENT, StepResources(other, other)), "the worker is in use while one of its trainings runs"


def test_a_map_gives_up_workers_for_a_training_once_for_all_that_share_the_worker(room: Room) -> None:
    embedding = running(room, EMBEDDING, 4, mapping=True)
    shared = Resources(cpus_per_worker=2, trainings_per_worker=3)
    for _ in range(2):
        assert not room.fits(STUDENT, StepResources(shared, shared))
        assert embedding.granted == 2
