"""What a user sees of a run: a live summary in a terminal, plain lines elsewhere, an HTML page, a status file, logs.

The runner and the stages report events; the same summary of them is shown everywhere. An error here never fails the
run.
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
from pipeline.monitor.format import duration_text, failed_text
from pipeline.monitor.html import html_page
from pipeline.monitor.progress_line import progress_line
from pipeline.monitor.run_state import NodeRun, Recorder, RunCapacity, RunInfo, RunState, dependants, node_runs_of
from pipeline.monitor.status import PAGE, publish, status_document
from pipeline.monitor.summary import Summary, summarize
from pipeline.monitor.terminal import terminal_view
from pipeline.plan.estimate import DurationEstimator
from pipeline.report.rows import ReportRow

PLAIN_EVERY = 30.0
"""Seconds between two lines with the summary, where the output is no terminal."""
PROGRESS_EVERY = 10.0
"""Seconds between two ``progress`` entries in a node's log, at least."""
PUBLISH_EVERY = 3.0
"""Seconds between two writes of the status and the page, at least."""
PUBLISH_AT_LEAST_EVERY = 10.0
"""Seconds between two writes of the status and the page, at most: readers take a run without any for gone."""
TICK = 0.5
"""Seconds between two checks of what is due."""
JOIN_SECONDS = 2.0
"""How long the end of a run waits for the thread that reads durations from records."""


@dataclass(frozen=True)
class RunSettings:
    """What is known of a run before it begins. ``folder`` is where its status and page are written; None for nowhere.
    ``page`` is the URL of the page in a storage that is read by URLs, '' in a directory.

    ``read_durations`` reads the storage's records to estimate how long nodes take. That may be slow, so it is called
    in a thread.
    """

    info: RunInfo
    capacity: RunCapacity = field(default_factory=RunCapacity)
    reused: int = 0
    folder: Path | None = None
    page: str = ""
    resources: Callable[[Node], Resources] = lambda _node: Resources()
    read_durations: Callable[[], DurationEstimator] | None = None


class RunView:
    """Shows a run. Its methods may be called from any thread."""

    def __init__(
        self,
        console: Console,
        logs: Path,
        nodes: Sequence[Node],
        settings: RunSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``nodes`` are those that the run builds, sorted: inputs come first."""
        settings = settings or RunSettings(RunInfo(logs.name, started=clock()))
        self.console = console
        self.settings = settings
        self.clock = clock
        self.event_log = EventLog(logs, self.warn, clock)
        self.rows: Sequence[ReportRow] = ()
        run_state = RunState(settings.info, node_runs_of(nodes, settings.resources), settings.capacity, settings.reused)
        self._recorder = Recorder(run_state)
        self._progress_logged: dict[str, float] = {}
        self._durations: DurationEstimator | None = None
        self._early_records: list[Record] = []
        self._lock = threading.Lock()
        self._published = (-1, 0.0)
        self._line_printed = clock()
        self._warned = self._page_printed = False

    @property
    def run(self) -> str:
        """The run's name."""
        return self.settings.info.run

    # --- showing the state ------------------------------------------------------------------------

    def run_state(self) -> RunState:
        """The state of the run, with the expected seconds of its nodes."""
        with self._lock:
            expected = self._durations.seconds() if self._durations else {}
        return replace(self._recorder.run_state(), expected=expected)

    def summary(self) -> Summary:
        return summarize(self.run_state(), self.clock())

    def table(self) -> Group:
        """The summary as lines that fit this terminal."""
        return terminal_view(self.summary(), self.console.width, self.console.height, self._page_location)

    @property
    def _page_location(self) -> str:
        """The URL or path of the page, relative to the current folder where it lies below that; '' where none is."""
        if self.settings.page or self.settings.folder is None:
            return self.settings.page
        page = self.settings.folder / PAGE
        return str(page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the run while the block runs; at its end, set the run's status and publish it a last time."""
        self.event_log.write("begin", text=self.settings.info.recipe, nodes=len(self._recorder.run_state().node_runs))
        over = threading.Event()
        ticks = threading.Thread(target=self._tick_until, args=(over,), name="view", daemon=True)
        # A thread of its own: reading all records may take long, and updates of the status must not wait for it.
        durations = threading.Thread(target=self._load_durations, name="durations", daemon=True)
        ticks.start()
        durations.start()
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
            ticks.join()
            durations.join(JOIN_SECONDS)
            self._publish()
            last = self.summary()
            self.event_log.write(
                "end",
                text=last.status,
                seconds=round(last.elapsed, 3),
                cpu_hours=round(last.cpu_hours, 4),
                gpu_hours=round(last.gpu_hours, 4),
            )

    @contextmanager
    def _redrawn(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, get_renderable=self.table, refresh_per_second=2, transient=True):
            yield

    def _tick_until(self, over: threading.Event) -> None:
        """Publish and print what is due, until ``over`` is set."""
        while not over.wait(TICK):
            self.tick()

    def tick(self) -> None:
        """Publish the status and print a summary line, if they are due."""
        now = self.clock()
        changes, last = self._published
        if now - last >= (PUBLISH_EVERY if self._recorder.changes != changes else PUBLISH_AT_LEAST_EVERY):
            self._publish()
        if not self.console.is_terminal and now - self._line_printed >= PLAIN_EVERY:
            self._line_printed = now
            self._print(f"       {progress_line(self.summary())}")
            if self._page_location and not self._page_printed:
                self._page_printed = True
                self._print(f"       HTML page: {self._page_location}")

    def _load_durations(self) -> None:
        """Read records to estimate durations from; add those of nodes that were finished meanwhile."""
        if self.settings.read_durations is None:
            return
        try:
            durations = self.settings.read_durations()
        except Exception as error:
            self.warn(f"{self.settings.info.storage}: the time left cannot be estimated ({first_line(error)})")
            return
        with self._lock:
            for record in self._early_records:
                durations.add(record)
            self._durations = durations

    def _publish(self) -> None:
        """Write the status and the page. If they cannot be written, warn once."""
        folder = self.settings.folder
        if folder is None:
            return
        self._published = (self._recorder.changes, self.clock())
        try:
            run_state = self.run_state()
            now = summarize(run_state, self.clock())
            publish(
                folder,
                status_document(now, run_state, self._from_folder(self.event_log.logs)),
                self._page(now, run_state),
            )
        except Exception as error:
            if not self._warned:
                self._warned = True
                self.warn(f"{folder}: the run's status cannot be written ({first_line(error)}); the run goes on")

    def _page(self, now: Summary, run_state: RunState) -> str:
        """The page, with a link for each node to its text log, or to its JSON lines where it has no text log."""
        existing = {path.name for path in self.event_log.logs.glob("*.*")}

        def link(node_run: NodeRun) -> str:
            logs = (self.event_log.path(node_run.name, "log"), self.event_log.path(node_run.name, "jsonl"))
            return next((self._from_folder(log) for log in logs if log.name in existing), "")

        return html_page(now, run_state, link, self.rows)

    def _from_folder(self, path: Path) -> str:
        """A path relative to the page's folder, for links."""
        assert self.settings.folder is not None
        return Path(os.path.relpath(path, self.settings.folder)).as_posix()

    # --- events that the runner and the stages report ---------------------------------------------

    def listener(self, node: Node) -> "NodeRunListener":
        """The listener to which the stage of a node reports."""
        return NodeRunListener(self, node)

    def started(self, node: Node, wanted: Resources, attempt: str) -> None:
        """The stage of a node starts, in attempt number ``attempt``, with these resources."""
        self._recorder.started(node.key, wanted, attempt, self.clock())
        self._log_event("start", node, workers=wanted.workers, cpus=wanted.cpus, gpus=wanted.gpus)
        if not self.console.is_terminal:  # a terminal shows the running nodes in its live table
            self._print(f"start  {node.name}")

    def workers_changed(self, node: Node, wanted: Resources, workers: int) -> None:
        """A running stage has so many of its ``wanted`` workers now; with 0 it is paused for more urgent stages."""
        paused = self._recorder.node_run(node.key).paused
        self._recorder.workers_changed(node.key, workers / wanted.workers, self.clock())
        if paused == (workers > 0):
            self._log_event("resume" if workers else "pause", node)
            if not self.console.is_terminal:
                self._print(f"resume {node.name}" if workers else f"pause  {node.name}  (more urgent stages run)")

    def stopping(self) -> None:
        """The run was interrupted: its running stages are being ended."""
        self._recorder.stopping()
        if not self.console.is_terminal:
            self._print(f"       {progress_line(self.summary())}")

    def released(self, node: Node) -> None:
        """The stage of a node has ended without an artifact, and its lease is released. Shown while the run is
        stopping; otherwise the runner reports what became of the node."""
        if self._recorder.run_state().stopping:
            self._recorder.ended(node.key, "waiting", self.clock())

    def finished(self, node: Node, record: Record) -> None:
        """The node's artifact was committed; warnings among its facts are printed."""
        node_run = self._recorder.ended(node.key, "done", self.clock())
        with self._lock:
            if self._durations is None:
                self._early_records.append(record)
            else:
                self._durations.add(record)
        warnings = record.facts.get("warnings", ())
        for warning in warnings if isinstance(warnings, list) else ():
            self._log_event("warning", node, str(warning), "warning")
        self._log_event("done", node, node_run.note, seconds=record.seconds, rows=record.rows, bytes=record.bytes)
        self._print(f"done   {node.name}  {duration_text(record.seconds)}  {node_run.note}".rstrip())
        for warning in warnings if isinstance(warnings, list) else ():
            self._print(f"       {node.name}  {warning}", "yellow")

    def taken(self, node: Node) -> None:
        """Another run has built the node meanwhile; its artifact is used."""
        self._recorder.ended(node.key, "done", self.clock())
        self._log_event("taken", node)
        self._print(f"taken  {node.name}  (another run built it)")

    def held(self, node: Node, owner: Owner | None) -> None:
        """Another run is building the node; printed the first time only."""
        who = f"process {owner.pid} on {owner.host}" if owner else "another run"
        if self._recorder.held(node.key, f"{who} is building it", self.clock()):
            self._log_event("wait", node, f"{who} is building it")
            self._print(f"wait   {node.name}  ({who} is building it)")

    def lost(self, node: Node) -> None:
        """Another run took the node over, because this run's heartbeat came too late."""
        self._recorder.ended(node.key, "waiting", self.clock())
        self._log_event("lost", node, "another run took over", "warning")
        self._print(f"lost   {node.name}  (another run took over)", "yellow")

    def failed(self, node: Node, message: str, blocked: bool) -> None:
        """The node failed; or, if ``blocked``, is not run because a node that it needs failed.

        Only failures are printed, each with the number of nodes that it blocks.
        """
        why = message.removesuffix(f" (log: {self.event_log.path(node.name, 'log')})")
        self._recorder.ended(node.key, "blocked" if blocked else "failed", self.clock(), why)
        if blocked:
            self._log_event("blocked", node, why, "warning")
            return
        node_runs = self._recorder.run_state().node_runs
        needed_by = dependants(node_runs, node.key)
        blocks = sum(node_run.state in ("waiting", "held") for node_run in node_runs if node_run.key in needed_by)
        self._log_event("failed", node, why, "error", blocks=blocks)
        self._print(f"FAIL   {failed_text(node.name, message, blocks)}", "red")

    def warn(self, message: str) -> None:
        """Print and log a warning about the run itself."""
        self.event_log.write("warning", text=message, level="warning")
        self._print(message, "yellow")

    def write_traceback(self, node: Node, error: BaseException) -> Path:
        """Write the error's traceback to the node's logs; return the path of the text log."""
        text = "".join(traceback.format_exception(error)).rstrip("\n")
        self.event_log.write_text_log(node.name, text)
        self._log_event("error", node, text, "error")
        return self.event_log.path(node.name, "log")

    def _log_event(self, event: Event, node: Node, text: str = "", level: Level = "info", **figures: float) -> None:
        attempt = self._recorder.node_run(node.key).attempt
        self.event_log.write(event, node.name, text, level, node.key, attempt, **figures)

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    def report_progress(
        self,
        node: Node,
        total: float | None = None,
        unit: str = "",
        amount: float = 0.0,
        note: str = "",
        restored: float = 0.0,
    ) -> None:
        """Progress of a running stage: units in all, units done since the last call, a message, and units that an
        earlier attempt has done."""
        now = self.clock()
        node_run = self._recorder.report_progress(node.key, total, unit, amount, note, restored, now)
        if note:
            self._log_event("note", node, note)
        if node_run and node_run.total and now - self._progress_logged.get(node.key, node_run.began) >= PROGRESS_EVERY:
            self._progress_logged[node.key] = now
            self._log_event(
                "progress", node, node_run.unit, amount=node_run.amount, total=node_run.total, rate=node_run.rate(now)
            )

    def log_line(self, node: Node, line: str) -> None:
        """A line that goes to the node's log only."""
        self._log_event("log", node, line)


@dataclass(frozen=True)
class NodeRunListener:
    """Passes what the stage of one node reports on to the view. The methods are those of ``cluster``'s listener."""

    view: RunView
    node: Node

    def expect(self, total: float, unit: str) -> None:
        self.view.report_progress(self.node, total=total, unit=unit)

    def advance(self, amount: float) -> None:
        self.view.report_progress(self.node, amount=amount)

    def restore(self, amount: float) -> None:
        self.view.report_progress(self.node, restored=amount)

    def note(self, text: str) -> None:
        self.view.report_progress(self.node, note=text)

    def log(self, line: str) -> None:
        self.view.log_line(self.node, line)
