"""The logs of a run: for each node a text log and JSON lines, and one file with the events of all nodes.

Layout of a folder of logs::

    <node>.log       notes, log lines and warnings of the stage, and tracebacks: plain text
    <node>.jsonl     every event of the node, one JSON object a line
    events.jsonl     the events of the run and of all nodes, without notes, log lines, progress and tracebacks

A log that cannot be written (a full disk, say) never fails the run: there is one warning, and entries are lost.
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
    "pause",
    "resume",
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
"""``begin`` and ``end`` are events of the run, ``warning`` is of the run or of a node, all others are of a node.
``error`` has the whole traceback, ``failed`` one line of it."""
Level = Literal["debug", "info", "warning", "error"]

NODE_ONLY_EVENTS = ("note", "log", "progress", "error")
"""Events that are written to the node's own file only, not to events.jsonl."""
TEXT_LOG_EVENTS = ("note", "log", "warning")
"""Events that are also written to the text log."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a ``.jsonl`` file. ``time`` is UTC, ISO 8601; ``node``, ``key`` and ``attempt`` are '' for events of
    the run itself. ``figures`` are numbers by name: ``seconds``, ``amount``, ``cpus`` and so on."""

    time: str
    level: Level
    event: Event
    node: str = ""
    key: str = ""
    attempt: str = ""
    text: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


class EventLog:
    """Writes the logs of a run into a folder. Its methods may be called from any thread.

    ``warn`` is called once, with a message, when something cannot be written.
    """

    def __init__(self, logs: Path, warn: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self.logs = logs
        self._warn = warn
        self._clock = clock
        self._lock = threading.Lock()
        self._warned = False

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
        """Append one event. ``node`` '' is the run itself; ``figures`` are the entry's numbers."""
        now = self._clock()
        stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        line = json.dumps(asdict(LogEntry(stamp, level, event, node, key, attempt, text, figures)))
        if node:
            self._append(self.path(node, "jsonl"), line)
            if event in TEXT_LOG_EVENTS:
                self.write_text_log(node, f"{time.strftime('%H:%M:%S', time.localtime(now))} {text}")
        if event not in NODE_ONLY_EVENTS:
            self._append(self.logs / "events.jsonl", line)

    def write_text_log(self, node: str, text: str) -> None:
        """Append a line to the node's text log only."""
        self._append(self.path(node, "log"), text)

    def path(self, node: str, form: Literal["log", "jsonl"]) -> Path:
        """The node's text log (``log``) or JSON lines (``jsonl``)."""
        return self.logs / f"{node.replace('/', '.')}.{form}"

    def _append(self, path: Path, line: str) -> None:
        with self._lock:
            try:
                self.logs.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")
                return
            except OSError as error:
                warned, why = self._warned, error.strerror or error
                self._warned = True
        if not warned:
            self._warn(f"{path}: cannot be written ({why}); the run goes on without these log entries")
