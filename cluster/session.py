"""Ray as a place to run stages: one that is started on this machine for the run, or one that is running already.

A Ray that is started for the run listens on loopback, with token authentication on. Ray writes nothing to the terminal:
its driver's warnings go to the given log, everything else to Ray's session directory. That of a Ray that is started
here lies in a temporary folder, which is removed when the session closes. Ray is imported when a session opens, so that
planning needs no Ray.
"""

import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cluster.amount import Demand, left_over
from cluster.ray_internals import (
    ATTACH_SETTINGS,
    LOCAL_SETTINGS,
    SESSION_FOLDER_OPTION,
    STARTUP_LOGGER,
    lean_start,
)
from cluster.resources import Capacity, Listener, Mirror, On, Resources, Worker
from cluster.share import WorkerShare
from cluster.temporary import RAY_FOLDER, SHORT_FOLDER, TemporaryFolder

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

OBJECT_STORE_BYTES = 200_000_000
"""Size of Ray's object store, which holds next to nothing, since stages write files."""
IDLE_SECONDS = 60.0
"""How long processes and groups are kept without work."""
LONGEST_FOLDER = 40
"""The longest path of a folder in which Ray can have its session directory, in bytes, since those of sockets are
limited."""
REACH_SECONDS = 5.0
"""How long an address may take to answer."""
LEAVE_SECONDS = 15.0
"""How long a closing session waits for calls to Ray that are running."""
NODES_VALID_SECONDS = 1.0
"""How long the known nodes of the cluster are used before they are read from Ray again."""
SHARE_SECONDS = 0.5
"""Seconds between two looks whether a stage that waits for its workers still may."""
POLL_SECONDS = 0.4
"""Seconds between two polls of the workers' progress."""


class Session:
    """A ``Place`` over Ray. A process has one at a time, as Ray allows no more."""

    concurrent = True

    def __init__(self, started: bool, dashboard: str, pending: float, folder: TemporaryFolder) -> None:
        """Use ``Session.open``. Ray is connected; ``started`` says that the session has to stop it. ``folder`` is
        removed when the session closes."""
        import ray

        from cluster.autoscaler_requests import AutoscalerRequests
        from cluster.ledger import Ledger
        from cluster.placement import on_driver_node
        from cluster.progress import ProgressBoard, ProgressFeed
        from cluster.stage_process import SessionParts
        from cluster.waiting import RayCalls

        self._started = started
        self._folder = folder
        self._dashboard = dashboard
        options = {"num_cpus": 0, "scheduling_strategy": on_driver_node()}
        board = ray.remote(ProgressBoard).options(max_restarts=-1, max_task_retries=-1, **options).remote()
        self._known_capacity: tuple[float, Capacity] | None = None
        self._wanted: list[Demand] = []
        self._autoscaler_requests = AutoscalerRequests()
        self._parts = SessionParts(
            Ledger(self._capacity, time.monotonic),
            RayCalls(),
            ProgressFeed(board),
            board,
            str(folder.path / "train"),
            pending,
        )
        self._ended = threading.Event()
        self._poll_thread = threading.Thread(target=self._poll, daemon=True, name="session")
        self._poll_thread.start()

    @classmethod
    def open(cls, address: str | None, log: Path, packages: Sequence[Path] = (), pending: float = 600.0) -> "Session":
        """Start a Ray here (address None), or attach to one: ``host:port``, or ``auto`` for this machine's.

        ``packages`` are folders of which workers of a running Ray import a copy, as the folders are now. ``pending`` is
        how many seconds work that the present nodes cannot hold waits for more nodes. A Ray that was started here ends
        with the thread that opened the session, even if that never closes it.
        Raises ``ConnectionError``, one line that names the address, within some 15 seconds.
        """
        try:
            given = os.environ.get(RAY_FOLDER)
            folder = TemporaryFolder("ray", LONGEST_FOLDER, given) if address is None else TemporaryFolder("train")
        except OSError as error:
            reason = f"{error.filename or given}: {error.strerror}"
            raise ConnectionError(f"Ray cannot be started on this machine: {reason} (log: {log})") from error
        try:
            dashboard = _start(log, folder.path) if address is None else _attach(address, log, packages)
            return cls(address is None, dashboard, pending, folder)
        except BaseException:
            folder.remove()
            raise

    @property
    def dashboard(self) -> str:
        """The URL of Ray's dashboard; '' where there is none, as in a Ray that was started here."""
        return self._dashboard

    def capacity(self) -> Capacity:
        """The present nodes, as of a second ago at most, and how far the cluster may grow, where that is known.

        Raises ``ConnectionError`` when this process's own node is lost.
        """
        with self._parts.ray_calls.running():
            return self._capacity()

    def _capacity(self) -> Capacity:
        from cluster.growth import growth, nodes

        now = time.monotonic()
        if self._known_capacity is None or now - self._known_capacity[0] >= NODES_VALID_SECONDS:
            there = nodes()
            self._known_capacity = now, Capacity.fixed(*there) if self._started else Capacity(there, growth())
        return self._known_capacity[1]

    def on(
        self, resources: Resources, listener: Listener, mirror: Mirror | None = None, share: WorkerShare | None = None
    ) -> On:
        return SessionOn(self._parts, resources, listener, mirror, share or WorkerShare(resources.workers))

    def prepare(self, resources: Resources, modules: Sequence[str]) -> None:
        """In a Ray that was started here, start one process for the first work with these resources by one worker, and
        import modules in it meanwhile. Until then it takes no CPU of the other work's. Does nothing for work by several
        workers, and where a process takes a GPU, memory or custom resources, which Ray counts."""
        counted = resources.gpus_per_worker or resources.memory_per_worker is not None or resources.custom_per_worker
        if not self._started or counted or resources.workers * resources.trainings_per_worker > 1:
            return
        from cluster.stage_process import ProcessHandle, process_shape

        with self._parts.ray_calls.running():
            self._parts.ledger.add_spare(
                process_shape(resources), ProcessHandle(resources, self._parts.board, tuple(modules))
            )

    def unseen(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """(node, path) for each path that an alive node does not see. Empty where there is one node."""
        from cluster.visibility import unseen

        with self._parts.ray_calls.running():
            return unseen(paths)

    def want(self, demands: Sequence[Demand]) -> None:
        self._wanted = list(demands)

    def release(self) -> None:
        """End all idle processes and groups now, without waiting for ``IDLE_SECONDS``, and those that were prepared."""
        with self._parts.ray_calls.running():
            self._parts.ledger.expire(0.0)
            self._parts.ledger.end_spares()

    def close(self) -> None:
        """End all actors of the session, and Ray too if it was started here."""
        import ray
        from ray.exceptions import RayError

        if not self._parts.ray_calls.close():
            return
        self._ended.set()
        for handle in self._parts.ledger.close():
            if not self._started:  # otherwise they end with Ray
                with contextlib.suppress(RayError):  # their node may be lost
                    handle.close()
        self._poll_thread.join()
        self._parts.ray_calls.wait_until_none(LEAVE_SECONDS)
        ray.shutdown()
        self._folder.remove()

    def _poll(self) -> None:
        """Until the session closes: pass on progress, end what has been idle too long, update the autoscaler's
        requests."""
        from ray.exceptions import RayError

        from cluster.resources import Closed

        lost = (ConnectionError, RayError)  # raised again when the capacity is read next
        while not self._ended.wait(POLL_SECONDS):
            with contextlib.suppress(Closed, *lost), self._parts.ray_calls.running():
                self._parts.feed.poll()
                self._parts.ledger.expire(IDLE_SECONDS)
                self._update_requests()

    def _update_requests(self) -> None:
        """Where it is unknown how far the cluster may grow, request nodes for all work that has no room.

        Nothing is requested while a tenant is being placed: Ray's autoscaler knows of that by itself, and a request
        would compete with it for the same room."""
        import ray

        capacity = self._capacity()
        if capacity.growth is not None:
            return
        handles = self._parts.ledger.handles()
        placed = all(handle is not None and ray.wait([handle.ready], timeout=0)[0] for handle in handles)
        wanted = left_over(capacity.nodes, self._parts.ledger.wanted() + self._wanted) if placed else []
        self._autoscaler_requests.update(wanted)


class SessionOn:
    """``On`` over a session, for one stage."""

    def __init__(
        self, parts: Any, resources: Resources, listener: Listener, mirror: Mirror | None, share: WorkerShare
    ) -> None:
        self._parts = parts
        self._resources = resources
        self._listener = listener
        self._mirror = mirror
        self._share = share

    @property
    def resources(self) -> Resources:
        return self._resources

    def map(
        self,
        open_worker: Callable[[Config, Worker], Callable[[Item], Result]],
        config: Config,
        items: Sequence[Item],
    ) -> Iterator[tuple[int, Result]]:
        from cluster.item_map import map_items

        return map_items(
            self._parts, open_worker, config, items, self._resources, self._listener, self._share, self._mirror
        )

    def train(self, loop: Callable[[Config, Worker], Result], config: Config) -> Result:
        from cluster.train_alone import train_alone
        from cluster.train_driver import train_in_group

        while not self._share.wait_for(self._resources.workers, SHARE_SECONDS):
            self._parts.ray_calls.check_open()
        if self._mirror is not None:
            self._mirror.push()  # workers on other machines read what the stage has written on this one
        alone = self._resources.workers == self._resources.trainings_per_worker == 1
        run = train_alone if alone else train_in_group
        result = run(self._parts, loop, config, self._resources, self._listener, self._mirror)
        if self._mirror is not None:
            self._mirror.pull()
        return result

    def expect(self, total: float, unit: str) -> None:
        self._listener.expect(total, unit)

    def log(self, line: str) -> None:
        self._listener.log(line)


def _start(log: Path, folder: Path) -> str:
    """Start a Ray on this machine, with its session directory in ``folder``; '' as its dashboard. It uses the user's
    token if there is one, else a random one."""
    os.environ.pop("RAY_AUTH_MODE", None)  # while it is unset, a new local Ray turns tokens on by itself
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if not named and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for name, value in LOCAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {
        "address": "local",
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        **session_folder_option(folder),
    }
    try:
        with _import_path(), lean_start():
            return _connect(log, **options)
    except Exception as error:  # Ray raises many types here, all of which mean that it did not start
        raise ConnectionError(f"Ray cannot be started on this machine: {_reason(error)} (log: {log})") from error


def session_folder_option(folder: Path) -> dict[str, str]:
    """The option with which Ray has its session directory in ``folder``. Empty where its path is too long for Ray: Ray
    then uses its default folder, and a line on the standard error says that this folder is not removed."""
    if len(os.fsencode(folder)) <= LONGEST_FOLDER:
        return {SESSION_FOLDER_OPTION: str(folder)}
    print(
        f"stillhouse: warning: TMPDIR: the path {folder.parent} is too long for Ray's sockets, and {SHORT_FOLDER} "
        "cannot be written to, so Ray uses its default folder, which is not removed; set TMPDIR to a shorter path",
        file=sys.stderr,
    )
    return {}


def _attach(address: str, log: Path, packages: Sequence[Path]) -> str:
    """Connect to a running Ray; the URL of its dashboard."""
    _reach(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    for name, value in ATTACH_SETTINGS.items():
        os.environ.setdefault(name, value)
    environment = {"runtime_env": {"py_modules": [str(folder) for folder in packages]}} if packages else {}
    try:
        return _connect(log, address=address, **environment)
    except Exception as error:  # Ray raises many types here, all of which mean that it is not connected
        raise ConnectionError(f"address: {address} refuses the connection: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line about an error that Ray explains in many."""
    if "AuthenticationError" in "".join(traceback.format_exception(error)):
        return "it requires a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's own"
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _connect(log: Path, **options: Any) -> str:
    """``ray.init`` with Ray's loggers writing to ``log``: warnings, and worse. Returns the dashboard's URL, or ''."""
    import ray

    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _divert(STARTUP_LOGGER, handler)
    try:
        with _stderr_in(log):
            url = ray.init(configure_logging=False, log_to_driver=False, **options).dashboard_url
    except SystemExit as error:
        raise KeyboardInterrupt from error  # Ray turns SIGTERM into SystemExit
    _divert("ray", handler)
    return f"http://{url}" if url else ""


@contextlib.contextmanager
def _stderr_in(log: Path) -> Iterator[None]:
    """Send file descriptor 2 to ``log``, since Ray's native code writes to it."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _divert(name: str, handler: logging.Handler) -> None:
    """Send the logger's warnings to ``handler`` alone."""
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING)


def _reach(address: str) -> None:
    """Raise ``ConnectionError`` at once where nothing listens: Ray itself would retry for a long time."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ConnectionError(f"address: {address} is not host:port of a Ray head node, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise ConnectionError(f"address: {address} cannot be reached ({error}); does a Ray head run there?") from error


@contextlib.contextmanager
def _import_path() -> Iterator[None]:
    """Workers that are started in this context import from the folders that this process imports from."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
