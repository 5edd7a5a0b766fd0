"""Progress of workers, from their processes to a ``Listener`` in the driver.

A worker only adds to a number. A thread of its process sends the running sum to the ``ProgressBoard``, an actor, every
``SEND_EVERY`` seconds, and the driver polls that. A worker's final report comes with its outcome and replaces messages
that are still on their way. The progress of a worker that died is subtracted again.
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
"""Seconds that the driver waits for the board, whose process may be restarting or lost."""


@dataclass(frozen=True, slots=True)
class ProgressMessage:
    """New progress of one worker in the job that reports to ``channel``: its running sum, and its new notes."""

    channel: int
    worker: WorkerId
    report: WorkerReport


class ProgressBoard:
    """The actor that collects messages of workers until the driver takes them. It is asynchronous and holds no CPU."""

    def __init__(self) -> None:
        self._messages: list[ProgressMessage] = []
        self._placements: dict[str, list[Any]] = {}

    async def post(self, message: ProgressMessage) -> None:
        self._messages.append(message)

    async def take(self) -> list[ProgressMessage]:
        messages, self._messages = self._messages, []
        return messages

    async def note_placement(self, group: str, placement: Any) -> None:
        """Remember the placement group of a training group, since it outlives processes that are killed."""
        self._placements.setdefault(group, []).append(placement)

    async def placements(self, group: str) -> list[Any]:
        return self._placements.pop(group, [])


class ProgressCount:
    """A worker's progress in one job. Adding to it costs well under a microsecond."""

    def __init__(self, channel: int, worker: WorkerId) -> None:
        self.channel = channel
        self.worker = worker
        self.total = 0.0
        self.restored = 0.0
        self.notes: list[str] = []

    def report(self, first: int = 0) -> WorkerReport:
        """The sums, and the notes from index ``first`` on."""
        return WorkerReport(self.total, first, tuple(self.notes[first:]), self.restored)


class RemoteWorker:
    """A ``Worker`` in a process of its own. It serves one job after another, each between ``begin`` and ``end``."""

    def __init__(self, threads: int, device: str, board: Any) -> None:
        self.rank = 0
        self.world_size = 1
        self.threads = threads
        self.device = device
        self._count = ProgressCount(-1, WorkerId(0, 0))
        self._active = threading.Event()
        threading.Thread(target=self._send, args=(board,), daemon=True, name="progress").start()

    def advance(self, amount: float) -> None:
        self._count.total += amount

    def restore(self, amount: float) -> None:
        self._count.restored += amount

    def note(self, text: str) -> None:
        self._count.notes.append(text)

    def begin(self, channel: int, worker: WorkerId, world_size: int) -> None:
        """Start to count for a job."""
        self.rank, self.world_size = worker.rank, world_size
        self._count = ProgressCount(channel, worker)
        self._active.set()

    def end(self) -> WorkerReport:
        """The whole progress since ``begin``."""
        self._active.clear()
        return self._count.report()

    def _send(self, board: Any) -> None:
        """Post the new progress of the current job every ``SEND_EVERY`` seconds."""
        sent_count, sent = self._count, WorkerReport()
        pause = threading.Event()
        while self._active.wait():
            pause.wait(SEND_EVERY)
            count = self._count
            if count is not sent_count:
                sent_count, sent = count, WorkerReport()
            now = count.report(sent.first + len(sent.notes))
            if (now.total, now.restored) != (sent.total, sent.restored) or now.notes:
                board.post.remote(ProgressMessage(count.channel, count.worker, now))
                sent = now


@dataclass
class _ChannelProgress:
    """What the listener of one channel has received: a report for each worker, its notes left out."""

    listener: Listener
    reports: dict[WorkerId, WorkerReport] = field(default_factory=dict)


class ProgressFeed:
    """The driver's end: polls the board and passes new progress to the listener of each channel."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._pending: Any = None
        self._channels: dict[int, _ChannelProgress] = {}
        self._last = 0
        self._lock = threading.Lock()

    def open(self, listener: Listener) -> int:
        """A new channel for one job; its number."""
        with self._lock:
            self._last += 1
            self._channels[self._last] = _ChannelProgress(listener)
            return self._last

    def poll(self) -> None:
        """Pass on what has arrived. Costs nothing where no channel is open; waits ``ANSWER_WITHIN`` at most."""
        if not self._channels:
            return
        pending, self._pending = self._pending or self._board.take.remote(), None
        if ray.wait([pending], timeout=ANSWER_WITHIN)[0]:
            self.receive(ray.get(pending))
        else:
            self._pending = pending

    def receive(self, messages: Sequence[ProgressMessage]) -> None:
        """Pass messages on. Those of a closed channel are ignored."""
        with self._lock:
            for message in messages:
                channel = self._channels.get(message.channel)
                if channel is not None:
                    self._update(channel, message.worker, message.report)

    def close(self, channel: int, finals: Mapping[WorkerId, WorkerReport]) -> None:
        """Pass on what is new in ``finals``, subtract the progress of all other workers, and close the channel."""
        with self._lock:
            closing = self._channels.pop(channel)
            for worker, report in finals.items():
                self._update(closing, worker, report)
            self._retract(closing, [worker for worker in closing.reports if worker not in finals])

    def _update(self, channel: _ChannelProgress, worker: WorkerId, report: WorkerReport) -> None:
        """Replace the worker's report. Reports of earlier generations are subtracted."""
        self._retract(channel, [known for known in channel.reports if known.generation < worker.generation])
        before = channel.reports.get(worker, WorkerReport())
        if report.total != before.total:
            channel.listener.advance(report.total - before.total)
        if report.restored != before.restored:
            channel.listener.restore(report.restored - before.restored)
        for note in report.notes[max(0, before.first - report.first) :]:
            channel.listener.note(note)
        end = max(before.first, report.first + len(report.notes))
        channel.reports[worker] = WorkerReport(report.total, end, restored=report.restored)

    def _retract(self, channel: _ChannelProgress, workers: list[WorkerId]) -> None:
        for worker in workers:
            gone = channel.reports.pop(worker)
            if gone.total:
                channel.listener.advance(-gone.total)
            if gone.restored:
                channel.listener.restore(-gone.restored)
