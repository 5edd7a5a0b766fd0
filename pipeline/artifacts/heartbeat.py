"""Heartbeats for the attempts that this process owns, so that no other process takes them over."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pipeline.artifacts.attempts import Attempt, Fenced, beat
from pipeline.errors import first_line

BEAT_SECONDS = 5.0
"""Seconds between two heartbeats of an attempt."""
THREADS = 16
"""Heartbeats that are written at once."""


@dataclass
class BeatingAttempt:
    """An attempt with its present lease. ``over``: it gets no more heartbeats. ``lock`` is held during one."""

    attempt: Attempt
    over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Heartbeat:
    """A context manager that writes heartbeats in threads while its block runs. One that takes long delays no other."""

    def __init__(self, clock: Callable[[], float], warn: Callable[[str], None], every: float = BEAT_SECONDS) -> None:
        """``warn`` is called with a message for each heartbeat that cannot be written; ``every`` is in seconds."""
        self._clock = clock
        self._warn = warn
        self._every = every
        self._held: dict[str, BeatingAttempt] = {}
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sign")
        self._thread = threading.Thread(target=self._beat_all, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._pool.shutdown()

    def keep_alive(self, attempt: Attempt) -> None:
        """Write heartbeats for the attempt from now on."""
        self._held[attempt.key] = BeatingAttempt(attempt)

    def stop(self, key: str) -> None:
        """Write no more heartbeats for a key. Returns once none is being written."""
        held = self._held.pop(key, None)
        if held is not None:
            with held.lock:
                held.over = True

    def _beat_all(self) -> None:
        while not self._ended.wait(self._every):
            for held in list(self._held.values()):
                if not held.lock.locked():
                    self._pool.submit(self._beat, held)

    def _beat(self, held: BeatingAttempt) -> None:
        with held.lock:
            if held.over:
                return
            try:
                held.attempt = beat(held.attempt, self._clock)
            except (Fenced, OSError) as error:
                # Not fatal here: the commit checks the fence itself, and a full disk may have room again by then.
                self._warn(f"{held.attempt.out}: no heartbeat written ({first_line(error)})")
