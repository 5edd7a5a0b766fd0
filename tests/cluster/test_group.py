"""How a group hands out jobs, told without Ray Train: the workers' calls are made here."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from cluster.group import Assignment, WorkerGroup
from cluster.outcomes import Died, Done, Ended, Failed, WorkerId, WorkerReport, attempt, settle
from cluster.resources import Resources

NOTHING = WorkerReport()


def group(workers: int) -> WorkerGroup:
    return WorkerGroup("g", Resources(workers=workers), board=None)


async def soon(waiting: Coroutine[Any, Any, Any]) -> bool:
    """Whether it answers at once."""
    task = asyncio.ensure_future(waiting)
    done, _ = await asyncio.wait([task], timeout=0.05)
    task.cancel()
    return bool(done)


def test_all_ranks_of_a_life_draw_the_same_job() -> None:
    async def told() -> tuple[Assignment | None, Assignment | None, Ended]:
        actor = group(2)
        running = asyncio.ensure_future(actor.run(7, b"work"))
        first = await actor.draw("a", 0, 1, None)
        await actor.report("a", 0, 1, attempt(lambda: "one"), NOTHING)
        second = await actor.draw("a", 0, 0, None)
        await actor.report("a", 0, 0, attempt(lambda: "zero"), NOTHING)
        return first, second, await running

    first, second, ended = asyncio.run(told())
    assert first == second == Assignment(channel=7, life=1, work=b"work")
    assert settle(ended.outcome, "job") == "zero"
    assert set(ended.said) == {WorkerId(1, 0), WorkerId(1, 1)}


def test_a_rank_that_is_done_waits_while_others_are_at_the_job() -> None:
    async def told() -> bool:
        actor = group(2)
        running = asyncio.ensure_future(actor.run(0, b""))
        await actor.draw("a", 0, 0, None)
        await actor.report("a", 0, 0, attempt(lambda: None), NOTHING)
        drawn = await soon(actor.draw("a", 1, 0, None))
        running.cancel()
        return drawn

    assert not asyncio.run(told())


def test_a_job_is_drawn_again_in_the_next_life_three_times_at_most() -> None:
    async def told() -> tuple[list[int], Ended]:
        actor = group(1)
        running = asyncio.ensure_future(actor.run(0, b""))
        lives = []
        for life in ("a", "b", "c", "d"):
            drawn = await actor.draw(life, 0, 0, None)
            assert drawn is not None
            lives.append(drawn.life)
        assert not await soon(actor.draw("e", 0, 0, None))
        return lives, await running

    lives, ended = asyncio.run(told())
    assert lives == [1, 2, 3, 4]
    assert ended.outcome == Died(4)


def test_a_life_in_which_a_rank_failed_gets_no_further_job() -> None:
    async def told() -> tuple[Ended, bool, bool]:
        actor = group(2)
        running = asyncio.ensure_future(actor.run(0, b""))
        await actor.draw("a", 0, 1, None)
        await actor.report("a", 0, 1, attempt(lambda: {}["x"]), NOTHING)
        ended = await running
        following = asyncio.ensure_future(actor.run(1, b""))
        await asyncio.sleep(0)
        old, new = await soon(actor.draw("a", 1, 0, None)), await soon(actor.draw("b", 0, 0, None))
        following.cancel()
        return ended, old, new

    ended, old, new = asyncio.run(told())
    assert isinstance(ended.outcome, Failed)
    assert (old, new) == (False, True)


def test_a_report_of_a_life_that_is_over_counts_for_nothing() -> None:
    async def told() -> Ended:
        actor = group(1)
        running = asyncio.ensure_future(actor.run(0, b""))
        await actor.draw("a", 0, 0, None)
        await actor.draw("b", 0, 0, None)
        await actor.report("a", 0, 0, attempt(lambda: "late"), NOTHING)
        await actor.report("b", 0, 0, attempt(lambda: "good"), NOTHING)
        return await running

    ended = asyncio.run(told())
    assert isinstance(ended.outcome, Done)
    assert settle(ended.outcome, "job") == "good"


def test_a_stopped_group_sends_its_workers_home() -> None:
    async def told() -> Assignment | None:
        actor = group(1)
        drawing = asyncio.ensure_future(actor.draw("a", 0, 0, None))
        await asyncio.sleep(0)
        await actor.stop()
        return await drawing

    assert asyncio.run(told()) is None
