"""What a user sees of a run: a live table in a terminal, plain lines elsewhere, and a log a node.

Everything also goes to files below ``logs``; whatever Ray says goes there alone.
"""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.artifact import Record
from pipeline.graph import Node
from pipeline.lease import Owner

PLAIN_EVERY = 30.0


@dataclass
class Line:
    """One running node."""

    node: Node
    began: float
    total: float = 0.0
    unit: str = ""
    done: float = 0.0
    note: str = ""
    said: float = 0.0

    def rate(self, now: float) -> float:
        return self.done / max(now - self.began, 1e-9)

    def left(self, now: float) -> str:
        """Time left at the rate so far."""
        if not (0 < self.done < self.total):
            return ""
        return clock_text((self.total - self.done) / self.rate(now))


@dataclass
class View:
    """The run so far. Its methods may be called from any thread."""

    console: Console
    logs: Path
    total: int
    lines: dict[str, Line] = field(default_factory=dict)
    done: int = 0
    failures: int = 0
    began: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)
    holding: set[str] = field(default_factory=set)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Redraw while it lasts, in a terminal; nothing elsewhere."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, get_renderable=self.table, refresh_per_second=4, transient=True):
            yield

    def table(self) -> Group:
        now = time.monotonic()
        grid = Table.grid(padding=(0, 2))
        with self.lock:
            for line in self.lines.values():
                share = f"{100 * line.done / line.total:3.0f}%" if line.total else ""
                amount = f"{line.done:,.0f}/{line.total:,.0f} {line.unit}" if line.total else ""
                rate = f"{line.rate(now):,.0f} {line.unit}/s" if line.done else ""
                left = line.left(now)
                grid.add_row(line.node.name, share, amount, rate, f"{left} left" if left else "", line.note)
            failed = f", {self.failures} failed" if self.failures else ""
            head = f"{self.done}/{self.total} done, {len(self.lines)} running{failed}  {clock_text(now - self.began)}"
        return Group(Text(head, style="bold"), grid)

    def listener(self, node: Node) -> "Ear":
        return Ear(self, node.key, self._log(node))

    def started(self, node: Node) -> None:
        with self.lock:
            self.lines[node.key] = Line(node, time.monotonic(), said=time.monotonic())
        self._say(f"start  {node.name}")

    def finished(self, node: Node, record: Record) -> None:
        with self.lock:
            line = self.lines.pop(node.key)
            self.done += 1
        self._say(f"done   {node.name}  {clock_text(record.seconds)}  {line.note}".rstrip())
        warnings = record.facts.get("warnings", ())
        for warning in warnings if isinstance(warnings, list) else ():
            self.warn(f"       {node.name}  {warning}")

    def taken(self, node: Node) -> None:
        """Another run has built it meanwhile."""
        with self.lock:
            self.done += 1
        self._say(f"taken  {node.name}  (another run built it)")

    def held(self, node: Node, owner: Owner | None) -> None:
        if node.key not in self.holding:
            self.holding.add(node.key)
            who = f"process {owner.pid} on {owner.host}" if owner else "another run"
            self._say(f"wait   {node.name}  ({who} is building it)")

    def lost(self, node: Node) -> None:
        """Another run took it over, because this one gave no sign of life in time."""
        with self.lock:
            self.lines.pop(node.key)
        self._say(f"lost   {node.name}  (another run took over)", "yellow")

    def failed(self, node: Node, message: str, blocked: bool) -> None:
        with self.lock:
            self.lines.pop(node.key, None)
            self.failures += 1
        self._say(f"{'skip' if blocked else 'FAIL'}   {node.name}  {message}", "yellow" if blocked else "red")

    def warn(self, message: str) -> None:
        self._say(message, "yellow")

    def keep_traceback(self, node: Node, error: BaseException) -> Path:
        """Write the whole error to the node's log; return the log's path."""
        log = self._log(node)
        with log.open("a", encoding="utf-8") as stream:
            stream.write("".join(traceback.format_exception(error)))
        return log

    def _log(self, node: Node) -> Path:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{node.name.replace('/', '.')}.log"

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def heard(self, key: str, total: float | None = None, unit: str = "", amount: float = 0.0, note: str = "") -> None:
        now = time.monotonic()
        with self.lock:
            line = self.lines.get(key)
            if line is None:
                return
            line.total = line.total if total is None else total
            line.unit = unit or line.unit
            line.done += amount
            line.note = note or line.note
            quiet = self.console.is_terminal or now - line.said < PLAIN_EVERY
            if quiet or not line.total:
                return
            line.said = now
            text = f"       {line.node.name}  {line.done:,.0f}/{line.total:,.0f} {line.unit}"
            text += f"  {line.rate(now):,.0f}/s  {line.left(now)} left  {line.note}"
        self._say(text.rstrip())


@dataclass(frozen=True)
class Ear:
    """Hears one node, for the view and for the node's log."""

    view: View
    key: str
    log_path: Path

    def expect(self, total: float, unit: str) -> None:
        self.view.heard(self.key, total=total, unit=unit)

    def advance(self, amount: float) -> None:
        self.view.heard(self.key, amount=amount)

    def note(self, text: str) -> None:
        self.view.heard(self.key, note=text)
        self.log(text)

    def log(self, line: str) -> None:
        with self.log_path.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def clock_text(seconds: float) -> str:
    """12.3s, 4m05s, 2h03m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{int(seconds) % 60:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
