"""What a user sees of a run: a live summary in a terminal, plain lines elsewhere, a page with its status, and logs.

The runner and the stages tell it what happens; it shows the same summary on every face. Nothing here fails the run.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cluster.resources import Resources
from pipeline.artifacts.attempts import Owner
from pipeline.artifacts.record import Record
from pipeline.errors import first_line
from pipeline.graph.nodes import Node
from pipeline.monitor.event_log import Event, EventLog, Level
from pipeline.monitor.format import clock_text, failed_text
from pipeline.monitor.html import html_page
from pipeline.monitor.progress_line import plain_line
from pipeline.monitor.run_state import About, NodeRun, Recorder, Room, RunState, dependants, node_runs_of
from pipeline.monitor.status import PAGE, as_document, publish
from pipeline.monitor.summary import Summary, summary
from pipeline.monitor.terminal import terminal_view
from pipeline.plan.estimate import Pace
from pipeline.report.rows import ReportRow

PLAIN_EVERY = 30.0
"""Seconds between two lines of the summary, where there is no terminal."""
PROGRESS_EVERY = 10.0
"""Seconds between two entries of how far a node is."""
PUBLISH_EVERY = 3.0
"""Seconds between two pages, at least, while something happens."""
SIGN_EVERY = 10.0
"""Seconds between two pages, at most."""
TICK = 0.5
LEAVE_SECONDS = 2.0
"""How long the end of a run waits for what still reads of times."""


@dataclass(frozen=True)
class RunSettings:
    """What is known of a run before it begins. ``folder`` is where its status and page go; None for nowhere. ``page``
    is the page's URL, for a storage that others read by URLs.

    ``pace`` reads what is known of times; it is called in a thread of the view.
    """

    about: About
    room: Room = field(default_factory=Room)
    reused: int = 0
    folder: Path | None = None
    page: str = ""
    resources: Callable[[Node], Resources] = lambda _node: Resources()
    pace: Callable[[], Pace] | None = None


class View:
    """The run so far. Its methods may be called from any thread."""

    def __init__(
        self,
        console: Console,
        logs: Path,
        nodes: Sequence[Node],
        settings: RunSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``nodes`` are those that the run builds, each after what it needs."""
        settings = settings or RunSettings(About(logs.name, started=clock()))
        self.console = console
        self.settings = settings
        self.clock = clock
        self.event_log = EventLog(logs, self.warn, clock)
        self.rows: Sequence[ReportRow] = ()
        run_state = RunState(settings.about, node_runs_of(nodes, settings.resources), settings.room, settings.reused)
        self._recorder = Recorder(run_state)
        self._noted: dict[str, float] = {}
        self._pace: Pace | None = None
        self._early: list[Record] = []
        self._lock = threading.Lock()
        self._published = (-1, 0.0)
        self._told = clock()
        self._warned = self._page_told = False

    @property
    def run(self) -> str:
        """The run's name."""
        return self.settings.about.run

    # --- the faces --------------------------------------------------------------------------------

    def run_state(self) -> RunState:
        """The run at this moment, with what like records tell of times."""
        with self._lock:
            expected = self._pace.seconds() if self._pace else {}
        return replace(self._recorder.run_state(), expected=expected)

    def summary(self) -> Summary:
        return summary(self.run_state(), self.clock())

    def table(self) -> Group:
        """The summary, for this terminal."""
        return terminal_view(self.summary(), self.console.width, self.console.height, self._page_place)

    @property
    def _page_place(self) -> str:
        """Where the page lies, as short as it can be said; '' where there is none."""
        if self.settings.page or self.settings.folder is None:
            return self.settings.page
        page = self.settings.folder / PAGE
        return str(page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the run while it lasts, and how it ended."""
        self.event_log.write("begin", text=self.settings.about.recipe, nodes=len(self._recorder.run_state().node_runs))
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), name="view", daemon=True)
        # Reading all records may take long, and a sign of life must not wait for it.
        learn = threading.Thread(target=self._learn, name="pace", daemon=True)
        watch.start()
        learn.start()
        try:
            with self._redrawn():
                yield
        except KeyboardInterrupt:
            self._recorder.close("stopped", self.clock())
            raise
        except BaseException:
            self._recorder.close("failed", self.clock())
            raise
        else:
            run_state = self._recorder.run_state()
            failed = any(node_run.state == "failed" for node_run in run_state.node_runs)
            self._recorder.close("failed" if failed else "done", self.clock())
        finally:
            over.set()
            watch.join()
            learn.join(LEAVE_SECONDS)
            self._publish()
            end = self.summary()
            self.event_log.write(
                "end",
                text=end.end,
                seconds=round(end.elapsed, 3),
                cpu_hours=round(end.cpu_hours, 4),
                gpu_hours=round(end.gpu_hours, 4),
            )

    @contextmanager
    def _redrawn(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, get_renderable=self.table, refresh_per_second=2, transient=True):
            yield

    def _watch(self, over: threading.Event) -> None:
        """Publish and tell, now and then, until it is over."""
        while not over.wait(TICK):
            self.tick()

    def tick(self) -> None:
        """Publish, and tell, what is due by the clock."""
        now = self.clock()
        changes, last = self._published
        if now - last >= (PUBLISH_EVERY if self._recorder.changes != changes else SIGN_EVERY):
            self._publish()
        if not self.console.is_terminal and now - self._told >= PLAIN_EVERY:
            self._told = now
            self._say(f"       {plain_line(self.summary())}")
            if self._page_place and not self._page_told:
                self._page_told = True
                self._say(f"       as a page: {self._page_place}")

    def _learn(self) -> None:
        """Read what is known of times."""
        if self.settings.pace is None:
            return
        try:
            pace = self.settings.pace()
        except Exception as error:
            self.warn(f"{self.settings.about.storage}: no time left can be told ({first_line(error)})")
            return
        with self._lock:
            for record in self._early:
                pace.learn(record)
            self._pace = pace

    def _publish(self) -> None:
        """Write the status and the page. What cannot be written is told once."""
        folder = self.settings.folder
        if folder is None:
            return
        self._published = (self._recorder.changes, self.clock())
        try:
            run_state = self.run_state()
            now = summary(run_state, self.clock())
            publish(
                folder, as_document(now, run_state, self._from_folder(self.event_log.logs)), self._page(now, run_state)
            )
        except Exception as error:
            if not self._warned:
                self._warned = True
                self.warn(f"{folder}: the run's status cannot be written ({first_line(error)}); the run goes on")

    def _page(self, now: Summary, run_state: RunState) -> str:
        """The page, with a link for each node to its log in words, or where it said nothing to its entries."""
        there = {path.name for path in self.event_log.logs.glob("*.*")}

        def link(node_run: NodeRun) -> str:
            logs = (self.event_log.path(node_run.name, "log"), self.event_log.path(node_run.name, "jsonl"))
            return next((self._from_folder(log) for log in logs if log.name in there), "")

        return html_page(now, run_state, link, self.rows)

    def _from_folder(self, path: Path) -> str:
        """A path as links of the page have it."""
        assert self.settings.folder is not None
        return Path(os.path.relpath(path, self.settings.folder)).as_posix()

    # --- what happens -----------------------------------------------------------------------------

    def listener(self, node: Node) -> "NodeListener":
        return NodeListener(self, node)

    def started(self, node: Node, wanted: Resources, attempt: str) -> None:
        self._recorder.started(node.key, wanted, attempt, self.clock())
        self._enter("start", node, workers=wanted.workers, cpus=wanted.cpus, gpus=wanted.gpus)
        if not self.console.is_terminal:  # which shows what runs
            self._say(f"start  {node.name}")

    def finished(self, node: Node, record: Record) -> None:
        node_run = self._recorder.ended(node.key, "done", self.clock())
        with self._lock:
            if self._pace is None:
                self._early.append(record)
            else:
                self._pace.learn(record)
        warnings = record.facts.get("warnings", ())
        for warning in warnings if isinstance(warnings, list) else ():
            self._enter("warning", node, str(warning), "warning")
        self._enter("done", node, node_run.note, seconds=record.seconds, rows=record.rows, bytes=record.bytes)
        self._say(f"done   {node.name}  {clock_text(record.seconds)}  {node_run.note}".rstrip())
        for warning in warnings if isinstance(warnings, list) else ():
            self._say(f"       {node.name}  {warning}", "yellow")

    def taken(self, node: Node) -> None:
        """Another run has built it meanwhile."""
        self._recorder.ended(node.key, "done", self.clock())
        self._enter("taken", node)
        self._say(f"taken  {node.name}  (another run built it)")

    def held(self, node: Node, owner: Owner | None) -> None:
        who = f"process {owner.pid} on {owner.host}" if owner else "another run"
        if self._recorder.held(node.key, f"{who} is building it", self.clock()):
            self._enter("wait", node, f"{who} is building it")
            self._say(f"wait   {node.name}  ({who} is building it)")

    def lost(self, node: Node) -> None:
        """Another run took it over, because this one gave no sign of life in time."""
        self._recorder.ended(node.key, "waiting", self.clock())
        self._enter("lost", node, "another run took over", "warning")
        self._say(f"lost   {node.name}  (another run took over)", "yellow")

    def failed(self, node: Node, message: str, blocked: bool) -> None:
        """It failed; or it is not run, because what it needs did: what failed says how many those are."""
        why = message.removesuffix(f" (log: {self.event_log.path(node.name, 'log')})")
        self._recorder.ended(node.key, "blocked" if blocked else "failed", self.clock(), why)
        if blocked:
            self._enter("blocked", node, why, "warning")
            return
        node_runs = self._recorder.run_state().node_runs
        needing = dependants(node_runs, node.key)
        blocks = sum(node_run.state in ("waiting", "held") for node_run in node_runs if node_run.key in needing)
        self._enter("failed", node, why, "error", blocks=blocks)
        self._say(f"FAIL   {failed_text(node.name, message, blocks)}", "red")

    def warn(self, message: str) -> None:
        self.event_log.write("warning", text=message, level="warning")
        self._say(message, "yellow")

    def keep_traceback(self, node: Node, error: BaseException) -> Path:
        """Write the whole error to the node's logs; return the text log's path."""
        whole = "".join(traceback.format_exception(error)).rstrip("\n")
        self.event_log.words(node.name, whole)
        self._enter("error", node, whole, "error")
        return self.event_log.path(node.name, "log")

    def _enter(self, event: Event, node: Node, text: str = "", level: Level = "info", **figures: float) -> None:
        attempt = self._recorder.of(node.key).attempt
        self.event_log.write(event, node.name, text, level, node.key, attempt, **figures)

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def heard(
        self, node: Node, total: float | None = None, unit: str = "", amount: float = 0.0, note: str = ""
    ) -> None:
        """What a stage says of itself while it works."""
        node_run = self._recorder.heard(node.key, total, unit, amount, note)
        if note:
            self._enter("note", node, note)
        now = self.clock()
        if node_run and node_run.total and now - self._noted.get(node.key, node_run.began) >= PROGRESS_EVERY:
            self._noted[node.key] = now
            self._enter(
                "progress", node, node_run.unit, amount=node_run.amount, total=node_run.total, rate=node_run.rate(now)
            )

    def logged(self, node: Node, line: str) -> None:
        self._enter("log", node, line)


@dataclass(frozen=True)
class NodeListener:
    """Hears one node, for the view and for the node's logs."""

    view: View
    node: Node

    def expect(self, total: float, unit: str) -> None:
        self.view.heard(self.node, total=total, unit=unit)

    def advance(self, amount: float) -> None:
        self.view.heard(self.node, amount=amount)

    def note(self, text: str) -> None:
        self.view.heard(self.node, note=text)

    def log(self, line: str) -> None:
        self.view.logged(self.node, line)
