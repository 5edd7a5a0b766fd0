"""How far workers are, from their processes to a ``Listener`` in the driver.

A worker only adds to a number; a thread beside it sends the running sum to a board, an actor, at most
a few times a second; the driver reads the board. What a worker said in all comes back with its outcome,
and stands for whatever was still under way. What a worker said before it died is taken back.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from cluster.outcomes import WorkerId, WorkerReport
from cluster.resources import Listener

SEND_EVERY = 0.4
"""Seconds between two messages of one worker."""
ANSWER_WITHIN = 2.0
"""Seconds that the driver waits for the board, whose process may be starting again, or be lost."""


@dataclass(frozen=True, slots=True)
class News:
    channel: int
    part: WorkerId
    said: WorkerReport


class Board:
    """The actor between workers and driver. Asynchronous, holds no CPU."""

    def __init__(self) -> None:
        self._news: list[News] = []
        self._placements: dict[str, list[Any]] = {}

    async def post(self, news: News) -> None:
        self._news.append(news)

    async def take(self) -> list[News]:
        news, self._news = self._news, []
        return news

    async def note_placement(self, group: str, placement: Any) -> None:
        """A training group holds this placement group of Ray's, which outlives processes that are killed."""
        self._placements.setdefault(group, []).append(placement)

    async def placements(self, group: str) -> list[Any]:
        return self._placements.pop(group, [])


class ProgressCount:
    """What a worker says of one job. ``advance`` costs well under a microsecond."""

    def __init__(self, channel: int, part: WorkerId) -> None:
        self.channel = channel
        self.part = part
        self.total = 0.0
        self.notes: list[str] = []

    def said(self, first: int = 0) -> WorkerReport:
        return WorkerReport(self.total, first, tuple(self.notes[first:]))


class RemoteWorker:
    """``Worker`` in a process of its own. It outlives a job: ``begin`` turns it to the next one."""

    def __init__(self, threads: int, device: str, board: Any) -> None:
        self.rank = 0
        self.world_size = 1
        self.threads = threads
        self.device = device
        self._tally = ProgressCount(-1, WorkerId(0, 0))
        self._active = threading.Event()
        threading.Thread(target=self._send, args=(board,), daemon=True, name="progress").start()

    def advance(self, amount: float) -> None:
        self._tally.total += amount

    def note(self, text: str) -> None:
        self._tally.notes.append(text)

    def begin(self, channel: int, part: WorkerId, world_size: int) -> None:
        self.rank, self.world_size = part.rank, world_size
        self._tally = ProgressCount(channel, part)
        self._active.set()

    def end(self) -> WorkerReport:
        """All that was said since ``begin``."""
        self._active.clear()
        return self._tally.said()

    def _send(self, board: Any) -> None:
        """Post what is new of the current job, and only that."""
        sent, said = self._tally, WorkerReport()
        pause = threading.Event()
        while self._active.wait():
            pause.wait(SEND_EVERY)
            tally = self._tally
            if tally is not sent:
                sent, said = tally, WorkerReport()
            now = tally.said(said.first + len(said.notes))
            if now.total != said.total or now.notes:
                board.post.remote(News(tally.channel, tally.part, now))
                said = now


@dataclass
class _Heard:
    """What the listener has been told of one channel."""

    listener: Listener
    parts: dict[WorkerId, WorkerReport] = field(default_factory=dict)


class Feed:
    """The driver's end: reads the board, and tells each channel's listener what is new."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._asked: Any = None
        self._heard: dict[int, _Heard] = {}
        self._last = 0
        self._lock = threading.Lock()

    def open(self, listener: Listener) -> int:
        with self._lock:
            self._last += 1
            self._heard[self._last] = _Heard(listener)
            return self._last

    def poll(self) -> None:
        """Pass on what has come in. Costs nothing where no channel is open; waits ``ANSWER_WITHIN`` at most."""
        if not self._heard:
            return
        asked, self._asked = self._asked or self._board.take.remote(), None
        if ray.wait([asked], timeout=ANSWER_WITHIN)[0]:
            self.hear(ray.get(asked))
        else:
            self._asked = asked

    def hear(self, news: Sequence[News]) -> None:
        with self._lock:
            for item in news:
                heard = self._heard.get(item.channel)
                if heard is not None:
                    self._hear(heard, item.part, item.said)

    def close(self, channel: int, finals: Mapping[WorkerId, WorkerReport]) -> None:
        """Tell what is left of ``finals``, take back what other parts had said, and hear no more."""
        with self._lock:
            heard = self._heard.pop(channel)
            for part, said in finals.items():
                self._hear(heard, part, said)
            self._retract(heard, [part for part in heard.parts if part not in finals])

    def _hear(self, heard: _Heard, part: WorkerId, said: WorkerReport) -> None:
        self._retract(heard, [known for known in heard.parts if known.life < part.life])
        before = heard.parts.get(part, WorkerReport())
        if said.total != before.total:
            heard.listener.advance(said.total - before.total)
        for note in said.notes[max(0, before.first - said.first) :]:
            heard.listener.note(note)
        end = max(before.first, said.first + len(said.notes))
        heard.parts[part] = WorkerReport(said.total, end)

    def _retract(self, heard: _Heard, parts: list[WorkerId]) -> None:
        for part in parts:
            gone = heard.parts.pop(part)
            if gone.total:
                heard.listener.advance(-gone.total)
