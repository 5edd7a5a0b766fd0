"""What a run writes down: for each node a text log and JSON lines, and the events of all nodes in one file.

Layout of a folder of logs::

    <node>.log       what the stage said, and the whole of an error, for people
    <node>.jsonl     the same and more, an entry a line, for programs
    events.jsonl     the entries of all nodes and of the run, without what a stage says while it works

A journal never fails the run: what cannot be written is told once and left out.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Event = Literal[
    "begin",
    "wait",
    "start",
    "note",
    "log",
    "progress",
    "warning",
    "done",
    "taken",
    "lost",
    "error",
    "failed",
    "blocked",
    "end",
]
"""``begin`` and ``end`` are the run's, and ``warning`` may be; all others are of a node. ``error`` is the whole of what
``failed`` says in one line."""
Level = Literal["debug", "info", "warning", "error"]

WHILE_IT_WORKS = ("note", "log", "progress", "error")
"""What stands in the node's own file alone."""
IN_WORDS = ("note", "log", "warning")
"""What the text log has, beside the whole of an error."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line. ``time`` is UTC, ISO 8601; ``node``, ``key`` and ``attempt`` are '' where the run itself is meant.
    ``figures`` are numbers by name: ``seconds``, ``amount``, ``cpus`` and so on."""

    time: str
    level: Level
    event: Event
    node: str = ""
    key: str = ""
    attempt: str = ""
    text: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


class EventLog:
    """The writer of a folder of logs. Its methods may be called from any thread.

    ``warn`` hears, once, that something could not be written.
    """

    def __init__(self, logs: Path, warn: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self.logs = logs
        self._warn = warn
        self._clock = clock
        self._lock = threading.Lock()
        self._told = False

    def write(
        self,
        event: Event,
        node: str = "",
        text: str = "",
        level: Level = "info",
        key: str = "",
        attempt: str = "",
        **figures: float,
    ) -> None:
        now = self._clock()
        stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        line = json.dumps(asdict(LogEntry(stamp, level, event, node, key, attempt, text, figures)))
        if node:
            self._append(self.path(node, "jsonl"), line)
            if event in IN_WORDS:
                self.words(node, f"{time.strftime('%H:%M:%S', time.localtime(now))} {text}")
        if event not in WHILE_IT_WORKS:
            self._append(self.logs / "events.jsonl", line)

    def words(self, node: str, text: str) -> None:
        """Something for the text log alone."""
        self._append(self.path(node, "log"), text)

    def path(self, node: str, form: Literal["log", "jsonl"]) -> Path:
        """Where what is written of a node lies."""
        return self.logs / f"{node.replace('/', '.')}.{form}"

    def _append(self, path: Path, line: str) -> None:
        with self._lock:
            try:
                self.logs.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")
                return
            except OSError as error:
                told, why = self._told, error.strerror or error
                self._told = True
        if not told:
            self._warn(f"{path}: cannot be written ({why}); the run goes on, what its logs miss is lost")
