"""Signs of life for the attempts in hand, so that nobody takes them over."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pipeline.artifacts.attempts import Attempt, Fenced, beat
from pipeline.errors import first_line

EVERY = 5.0
"""Seconds between two signs."""
AT_ONCE = 16


@dataclass
class HeldAttempt:
    """An attempt in hand, or one that was let go of."""

    attempt: Attempt
    over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Heartbeat:
    """A context manager: signs are given within. A store that is slow to take one sign holds up no other."""

    def __init__(self, clock: Callable[[], float], warn: Callable[[str], None], every: float = EVERY) -> None:
        """``warn`` is told of signs that could not be given."""
        self._clock = clock
        self._warn = warn
        self._every = every
        self._held: dict[str, HeldAttempt] = {}
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sign")
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._pool.shutdown()

    def hold(self, attempt: Attempt) -> None:
        """Give signs for it from now on."""
        self._held[attempt.key] = HeldAttempt(attempt)

    def let_go(self, key: str) -> None:
        """Give no more: none is under way when this returns."""
        held = self._held.pop(key, None)
        if held is not None:
            with held.lock:
                held.over = True

    def _keep(self) -> None:
        while not self._ended.wait(self._every):
            for held in list(self._held.values()):
                if not held.lock.locked():
                    self._pool.submit(self._sign, held)

    def _sign(self, held: HeldAttempt) -> None:
        with held.lock:
            if held.over:
                return
            try:
                held.attempt = beat(held.attempt, self._clock)
            except (Fenced, OSError) as error:
                # The commit checks the fence itself; a disk that is full or gone may come back before that.
                self._warn(f"{held.attempt.out}: no sign of life given ({first_line(error)})")
