"""What a run does until its first stage starts, such as starting Ray, which takes some seconds.

In a terminal, one line that is updated in place and disappears when the summary of the run takes over. Elsewhere,
a line for each step that takes more than a moment, and again every 10 seconds while it lasts.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

PRINT_AFTER = 2.0
"""Seconds that a step takes before it is printed, where the output is no terminal."""
PRINT_EVERY = 10.0
"""Seconds between two lines about one step, where the output is no terminal."""
TICK = 0.25
"""Seconds between two checks of what is to be printed."""
REFRESHES = 4
"""Updates of the line in a terminal, per second."""


class Startup:
    """Shows which step a run is at. A context manager; ``end`` may be called before the context ends."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._step, self._began, self._next_print = "", clock(), float("inf")
        self._over = threading.Event()
        self._live = Live(
            console=console, get_renderable=self._line, refresh_per_second=REFRESHES, transient=True, auto_refresh=True
        )
        self._thread = threading.Thread(target=self._tick_until_over, daemon=True, name="startup")

    def step(self, text: str) -> None:
        """The run begins the step that ``text`` describes, such as "starting Ray"."""
        self._step, self._began = text, self._clock()
        self._next_print = self._began + PRINT_AFTER
        if self._console.is_terminal and self._live.is_started:
            self._live.refresh()

    def end(self) -> None:
        """Show no more. A second call does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._thread.join()

    def tick(self) -> None:
        """Print a line about the present step, if one is due."""
        now = self._clock()
        if now >= self._next_print:
            self._next_print = now + PRINT_EVERY
            self._console.print(f"       {self._line()}", markup=False, soft_wrap=True)

    def _line(self) -> Text:
        seconds = self._clock() - self._began
        return Text(f"{self._step}, {seconds:.0f} s" if seconds >= 1 else self._step)

    def _tick_until_over(self) -> None:
        while not self._over.wait(TICK):
            self.tick()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
