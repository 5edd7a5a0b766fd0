import asyncio

import pytest
import ray
from work import Heard

from cluster import progress
from cluster.outcomes import WorkerId, WorkerReport
from cluster.progress import ProgressBoard, ProgressFeed, ProgressMessage
from cluster.session import Session


def test_messages_that_arrive_late_or_in_time_count_once() -> None:
    heard, feed = Heard(), ProgressFeed(None)
    channel = feed.open(heard)
    feed.receive(
        [
            ProgressMessage(channel, WorkerId(1, 0), WorkerReport(2.0, 0, ("a",))),
            ProgressMessage(channel, WorkerId(1, 0), WorkerReport(5.0, 1, ("b",))),
        ]
    )
    assert (heard.done, heard.notes) == (5.0, ["a", "b"])
    feed.close(channel, {WorkerId(1, 0): WorkerReport(7.0, 0, ("a", "b", "c"))})
    assert (heard.done, heard.notes) == (7.0, ["a", "b", "c"])
    feed.receive([ProgressMessage(channel, WorkerId(1, 0), WorkerReport(6.0, 2, ()))])
    assert heard.done == 7.0


def test_ranks_add_up() -> None:
    heard, feed = Heard(), ProgressFeed(None)
    channel = feed.open(heard)
    feed.receive([ProgressMessage(channel, WorkerId(1, 0), WorkerReport(2.0))])
    feed.close(channel, {WorkerId(1, 0): WorkerReport(3.0), WorkerId(1, 1): WorkerReport(4.0)})
    assert heard.done == 7.0


def test_the_progress_of_a_dead_worker_is_subtracted() -> None:
    heard, feed = Heard(), ProgressFeed(None)
    channel = feed.open(heard)
    feed.receive(
        [
            ProgressMessage(channel, WorkerId(1, 0), WorkerReport(2.0)),
            ProgressMessage(channel, WorkerId(1, 1), WorkerReport(2.0)),
        ]
    )
    feed.receive([ProgressMessage(channel, WorkerId(2, 0), WorkerReport(1.0))])
    assert heard.done == 1.0
    feed.close(channel, {})
    assert heard.done == 0.0


class Slow(ProgressBoard):
    """A board whose process is starting again."""

    async def take(self) -> list[ProgressMessage]:
        news = await super().take()
        await asyncio.sleep(1.0)
        return news


def test_a_slow_board_does_not_delay_the_driver_and_its_messages_arrive_later(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session.dashboard == "", "a Ray runs"
    monkeypatch.setattr(progress, "ANSWER_WITHIN", 0.1)
    board = ray.remote(Slow).options(num_cpus=0).remote()
    heard, feed = Heard(), ProgressFeed(board)
    channel = feed.open(heard)
    ray.get(board.post.remote(ProgressMessage(channel, WorkerId(1, 0), WorkerReport(2.0))))
    feed.poll()
    assert heard.done == 0.0
    while heard.done == 0.0:
        feed.poll()
    assert heard.done == 2.0
    ray.kill(board)
