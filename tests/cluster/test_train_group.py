"""How a group hands out jobs, without Ray Train: the test makes the calls that workers would make."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from cluster.outcomes import Died, Done, Failed, JobResult, WorkerId, WorkerReport, outcome_of, value_or_raise
from cluster.resources import Resources
from cluster.train_group import Assignment, JobNumber, WorkerGroup

NOTHING = WorkerReport()


def group(workers: int = 1, slots: int = 1) -> WorkerGroup:
    return WorkerGroup("g", Resources(workers=workers, trainings_per_worker=slots), board=None)


async def soon(waiting: Coroutine[Any, Any, Any]) -> bool:
    """Whether it answers at once."""
    task = asyncio.ensure_future(waiting)
    done, _ = await asyncio.wait([task], timeout=0.05)
    task.cancel()
    return bool(done)


def test_all_ranks_of_a_generation_get_the_same_job() -> None:
    async def results() -> tuple[Assignment | None, Assignment | None, JobResult]:
        actor = group(2)
        running = asyncio.ensure_future(actor.run(7, b"work"))
        first = await actor.next_job("a", JobNumber(0, 0), 1, None)
        await actor.report("a", JobNumber(0, 0), 1, outcome_of(lambda: "one"), NOTHING)
        second = await actor.next_job("a", JobNumber(0, 0), 0, None)
        await actor.report("a", JobNumber(0, 0), 0, outcome_of(lambda: "zero"), NOTHING)
        return first, second, await running

    first, second, ended = asyncio.run(results())
    assert first == second == Assignment(channel=7, generation=1, work=b"work")
    assert value_or_raise(ended.outcome, "job") == "zero"
    assert set(ended.reports) == {WorkerId(1, 0), WorkerId(1, 1)}


def test_a_rank_that_is_done_waits_while_others_are_at_the_job() -> None:
    async def results() -> bool:
        actor = group(2)
        running = asyncio.ensure_future(actor.run(0, b""))
        await actor.next_job("a", JobNumber(0, 0), 0, None)
        await actor.report("a", JobNumber(0, 0), 0, outcome_of(lambda: None), NOTHING)
        assigned = await soon(actor.next_job("a", JobNumber(0, 1), 0, None))
        running.cancel()
        return assigned

    assert not asyncio.run(results())


def test_a_job_is_given_to_the_next_generation_three_times_at_most() -> None:
    async def results() -> tuple[list[int], JobResult]:
        actor = group(1)
        running = asyncio.ensure_future(actor.run(0, b""))
        generations = []
        for generation in ("a", "b", "c", "d"):
            assigned = await actor.next_job(generation, JobNumber(0, 0), 0, None)
            assert assigned is not None
            generations.append(assigned.generation)
        assert not await soon(actor.next_job("e", JobNumber(0, 0), 0, None))
        return generations, await running

    generations, ended = asyncio.run(results())
    assert generations == [1, 2, 3, 4]
    assert ended.outcome == Died(4)


def test_a_generation_in_which_a_rank_failed_gets_no_further_job() -> None:
    async def results() -> tuple[JobResult, bool, bool]:
        actor = group(2)
        running = asyncio.ensure_future(actor.run(0, b""))
        await actor.next_job("a", JobNumber(0, 0), 1, None)
        await actor.report("a", JobNumber(0, 0), 1, outcome_of(lambda: {}["x"]), NOTHING)
        ended = await running
        following = asyncio.ensure_future(actor.run(1, b""))
        await asyncio.sleep(0)
        old, new = (
            await soon(actor.next_job("a", JobNumber(0, 1), 0, None)),
            await soon(actor.next_job("b", JobNumber(0, 0), 0, None)),
        )
        following.cancel()
        return ended, old, new

    ended, old, new = asyncio.run(results())
    assert isinstance(ended.outcome, Failed)
    assert (old, new) == (False, True)


def test_a_report_of_an_earlier_generation_is_ignored() -> None:
    async def results() -> JobResult:
        actor = group(1)
        running = asyncio.ensure_future(actor.run(0, b""))
        await actor.next_job("a", JobNumber(0, 0), 0, None)
        await actor.next_job("b", JobNumber(0, 0), 0, None)
        await actor.report("a", JobNumber(0, 0), 0, outcome_of(lambda: "late"), NOTHING)
        await actor.report("b", JobNumber(0, 0), 0, outcome_of(lambda: "good"), NOTHING)
        return await running

    ended = asyncio.run(results())
    assert isinstance(ended.outcome, Done)
    assert value_or_raise(ended.outcome, "job") == "good"


def test_the_workers_of_a_stopped_group_get_no_job() -> None:
    async def results() -> Assignment | None:
        actor = group(1)
        drawing = asyncio.ensure_future(actor.next_job("a", JobNumber(0, 0), 0, None))
        await asyncio.sleep(0)
        await actor.stop()
        return await drawing

    assert asyncio.run(results()) is None


def test_each_slot_of_a_worker_gets_a_job_of_its_own_and_the_next_job_when_that_has_ended() -> None:
    async def results() -> tuple[list[Assignment | None], bool, Assignment | None, list[JobResult]]:
        actor = group(slots=2)
        running = [asyncio.ensure_future(actor.run(channel, b"")) for channel in (1, 2)]
        await asyncio.sleep(0)
        first = [await actor.next_job("a", JobNumber(slot, 0), 0, None) for slot in (0, 1)]
        await actor.report("a", JobNumber(1, 0), 0, outcome_of(lambda: {}["x"]), NOTHING)
        failed = await running[1]
        early = await soon(actor.next_job("a", JobNumber(1, 1), 0, None))
        running[1] = asyncio.ensure_future(actor.run(3, b""))
        third = await actor.next_job("a", JobNumber(1, 1), 0, None)
        await actor.report("a", JobNumber(0, 0), 0, outcome_of(lambda: "one"), NOTHING)
        await actor.report("a", JobNumber(1, 1), 0, outcome_of(lambda: "three"), NOTHING)
        return first, early, third, [failed, *[await one for one in running]]

    first, early, third, (failed, one, three) = asyncio.run(results())
    assert [job.channel for job in (*first, third) if job is not None] == [1, 2, 3]
    assert not early
    assert isinstance(failed.outcome, Failed)
    assert [value_or_raise(ended.outcome, "job") for ended in (one, three)] == ["one", "three"]


def test_deaths_of_a_worker_count_for_each_job_that_it_had() -> None:
    async def results() -> tuple[list[int], list[int], list[JobResult]]:
        actor = group(slots=3)
        old = [asyncio.ensure_future(actor.run(channel, b"")) for channel in (1, 2)]
        for generation in ("a", "b", "c"):
            for slot in (0, 1):
                await actor.next_job(generation, JobNumber(slot, 0), 0, None)
        new = asyncio.ensure_future(actor.run(3, b""))
        await asyncio.sleep(0)
        fourth = [await actor.next_job("d", JobNumber(slot, 0), 0, None) for slot in (0, 1, 2)]
        fifth = await actor.next_job("e", JobNumber(0, 0), 0, None)
        assert fifth is not None
        await actor.report("e", JobNumber(0, 0), 0, outcome_of(lambda: "three"), NOTHING)
        return (
            [job.generation for job in fourth if job is not None],
            [fifth.channel, fifth.generation],
            [await one for one in (*old, new)],
        )

    fourth, fifth, (one, two, three) = asyncio.run(results())
    assert fourth == [4, 4, 1]
    assert fifth == [3, 2], "the other two have been lost too often"
    assert (one.outcome, two.outcome) == (Died(4), Died(4))
    assert value_or_raise(three.outcome, "job") == "three"
