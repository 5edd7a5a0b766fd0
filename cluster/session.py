"""Ray as a place for stages: one we start on this machine for ourselves, or one that runs already.

A Ray of our own listens on loopback, with token authentication on. Nothing of Ray comes to the
terminal: what its driver side has to say goes to the log given, the rest into Ray's session directory.
Ray is imported when a session opens, so that planning does without it.
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
from cluster.ray_internals import ATTACH_SETTINGS, LOCAL_SETTINGS, STARTUP_LOGGER
from cluster.resources import Capacity, Listener, Mirror, On, Resources, Worker

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")

OBJECT_STORE_BYTES = 200_000_000
"""Room for what goes through Ray's object store, which is next to nothing: stages write files."""
IDLE_SECONDS = 60.0
"""How long seats and groups stay without work."""
REACH_SECONDS = 5.0
"""How long an address may take to answer."""
LEAVE_SECONDS = 15.0
"""How long a closing session waits for threads to come out of Ray."""
LOOK_EVERY = 1.0
"""Seconds that a look at the cluster's nodes is good for."""
PULSE = 0.4
"""Seconds between two looks at the workers' progress."""


class Session:
    """A ``Place`` over Ray. One a process at a time, as Ray has it."""

    concurrent = True

    def __init__(self, started: bool, dashboard: str, pending: float) -> None:
        """Use ``Session.open``. Ray is connected; ``started`` says that it is ours to stop."""
        import ray

        from cluster.beside import beside_the_driver
        from cluster.ledger import Ledger
        from cluster.patience import Gate
        from cluster.progress import Board, Feed
        from cluster.shards import Desk
        from cluster.wishes import Wishes

        self._started = started
        self._dashboard = dashboard
        options = {"num_cpus": 0, "scheduling_strategy": beside_the_driver()}
        board = ray.remote(Board).options(max_restarts=-1, max_task_retries=-1, **options).remote()
        self._seen: tuple[float, Capacity] | None = None
        self._wanted: list[Demand] = []
        self._wishes = Wishes()
        self._desk = Desk(Ledger(self._capacity, time.monotonic), Gate(), Feed(board), board, pending)
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True, name="session")
        self._pulse.start()

    @classmethod
    def open(cls, address: str | None, log: Path, packages: Sequence[Path] = (), pending: float = 600.0) -> "Session":
        """Start a Ray here (address None), or attach to one: ``host:port``, or ``auto`` for this machine's.

        ``packages`` are folders that workers of a Ray that runs already are given to import from, as they are now.
        ``pending``: seconds that work beyond the nodes that are there waits for more of them. A Ray of our own ends
        with the thread that opened it, should it forget to close it.
        Raises ``ConnectionError``, one line that names the address, within some 15 seconds.
        """
        dashboard = _start(log) if address is None else _attach(address, log, packages)
        return cls(address is None, dashboard, pending)

    @property
    def dashboard(self) -> str:
        """Ray's dashboard, where its head says it is. A Ray of our own has none."""
        return self._dashboard

    def capacity(self) -> Capacity:
        """The nodes there are, as of a second ago at most, and how far the cluster may grow, where that is said.

        Raises ``ConnectionError`` when this process's own node is gone.
        """
        with self._desk.gate.passing():
            return self._capacity()

    def _capacity(self) -> Capacity:
        from cluster.growth import growth, nodes

        now = time.monotonic()
        if self._seen is None or now - self._seen[0] >= LOOK_EVERY:
            there = nodes()
            self._seen = now, Capacity.fixed(*there) if self._started else Capacity(there, growth())
        return self._seen[1]

    def on(self, resources: Resources, listener: Listener, mirror: Mirror | None = None) -> On:
        return SessionOn(self._desk, resources, listener, mirror)

    def unseen(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """(node, path) for each path that an alive node does not see. Empty where there is one node."""
        from cluster.sight import unseen

        with self._desk.gate.passing():
            return unseen(paths)

    def want(self, demands: Sequence[Demand]) -> None:
        self._wanted = list(demands)

    def release(self) -> None:
        """End the seats and groups that are idle, now and not after their time."""
        with self._desk.gate.passing():
            self._desk.ledger.expire(0.0)

    def close(self) -> None:
        """End all actors; stop Ray if it is ours, leave it if it is not."""
        import ray
        from ray.exceptions import RayError

        if not self._desk.gate.close():
            return
        self._ended.set()
        for body in self._desk.ledger.close():
            if not self._started:  # else they end with Ray
                with contextlib.suppress(RayError):  # the node that they are on may be gone
                    body.close()
        self._pulse.join()
        self._desk.gate.wait_until_empty(LEAVE_SECONDS)
        ray.shutdown()

    def _beat(self) -> None:
        """Pass on progress, and end what has been idle too long."""
        from ray.exceptions import RayError

        from cluster.resources import Closed

        lost = (ConnectionError, RayError)  # who asks for the capacity next is told
        while not self._ended.wait(PULSE):
            with contextlib.suppress(Closed, *lost), self._desk.gate.passing():
                self._desk.feed.poll()
                self._desk.ledger.expire(IDLE_SECONDS)
                self._wish()

    def _wish(self) -> None:
        """Where nobody says how far the cluster may grow, its autoscaler hears of all that has no room.

        Not while something of ours is being placed: Ray knows of that itself, and a wish would take the room from it.
        """
        import ray

        capacity = self._capacity()
        if capacity.growth is not None:
            return
        bodies = self._desk.ledger.bodies()
        placed = all(body is not None and ray.wait([body.ready], timeout=0)[0] for body in bodies)
        wanted = left_over(capacity.nodes, self._desk.ledger.wanted() + self._wanted) if placed else []
        self._wishes.wish(wanted)


class SessionOn:
    """``On`` over a session, for one stage."""

    def __init__(self, desk: Any, resources: Resources, listener: Listener, mirror: Mirror | None) -> None:
        self._desk = desk
        self._resources = resources
        self._listener = listener
        self._mirror = mirror

    @property
    def resources(self) -> Resources:
        return self._resources

    def map(
        self,
        open_worker: Callable[[Config, Worker], Callable[[Item], Result]],
        config: Config,
        items: Sequence[Item],
    ) -> Iterator[tuple[int, Result]]:
        from cluster.shards import map_items

        return map_items(self._desk, open_worker, config, items, self._resources, self._listener, self._mirror)

    def train(self, loop: Callable[[Config, Worker], Result], config: Config) -> Result:
        from cluster.training import train_in_group

        if self._mirror is not None:
            self._mirror.push()  # workers elsewhere read what the stage has written here
        result = train_in_group(self._desk, loop, config, self._resources, self._listener, self._mirror)
        if self._mirror is not None:
            self._mirror.pull()
        return result

    def expect(self, total: float, unit: str) -> None:
        self._listener.expect(total, unit)

    def log(self, line: str) -> None:
        self._listener.log(line)


def _start(log: Path) -> str:
    """A Ray of our own. A token of the user's is used if there is one; else this process makes one up."""
    os.environ.pop("RAY_AUTH_MODE", None)  # unset, a new local Ray turns tokens on by itself
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if not named and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for name, value in LOCAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    options = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        with _import_path():
            return _connect(log, **options)
    except Exception as error:  # Ray raises many kinds here, and all mean that there is none
        raise ConnectionError(f"Ray cannot be started on this machine: {_reason(error)} (log: {log})") from error


def _attach(address: str, log: Path, packages: Sequence[Path]) -> str:
    _reach(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
    for name, value in ATTACH_SETTINGS.items():
        os.environ.setdefault(name, value)
    shipped = {"runtime_env": {"py_modules": [str(folder) for folder in packages]}} if packages else {}
    try:
        return _connect(log, address=address, **shipped)
    except Exception as error:  # Ray raises many kinds here, and all mean that we are not connected
        raise ConnectionError(f"address: {address} does not take us: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line of Ray's many."""
    if "AuthenticationError" in "".join(traceback.format_exception(error)):
        return "it asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's own"
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
        raise KeyboardInterrupt from error  # how Ray takes SIGTERM
    _divert("ray", handler)
    return f"http://{url}" if url else ""


@contextlib.contextmanager
def _stderr_in(log: Path) -> Iterator[None]:
    """Ray's native code writes to file descriptor 2."""
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
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING)


def _reach(address: str) -> None:
    """Fail early, and without Ray's own retries, where nobody listens."""
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
    """Workers started within import from where this process does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
