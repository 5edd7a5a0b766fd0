"""A real Ray of several nodes on loopback. Each node is started by its own ``ray start``, has its own folder, and is
ended by the ids of its processes. Tests use it as users do, from separate processes (``Rays.python``)."""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
MARK = "STILLHOUSE_TEST_NODE"
"""The environment variable that the processes of a node inherit, and by which they are found."""
START_WITHIN = 400.0
"""Seconds that ``ray start`` may take."""
TRIES = 3
"""How often a node is started before the test fails."""
SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # everything listens on loopback
    "RAY_enable_metrics_collection": "0",  # the exporter listens on all addresses
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    # A busy machine takes minutes to start a node or a worker.
    "RAY_raylet_start_wait_time_s": "170",
    "RAY_worker_register_timeout_seconds": "300",
    # A killed node is noticed after two seconds instead of twenty.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""The environment of every process of a test's Ray. The argument ``environment`` of ``Rays`` takes precedence."""

START = """
import types
from ray.scripts import scripts
scripts.ray_constants = types.SimpleNamespace(**{**vars(scripts.ray_constants), "ENABLE_RAY_CLUSTER": True})
scripts.main()
"""
"""``ray start`` for a second node on loopback, which it refuses on its own although it works."""


CLEANER = """
import os, signal, sys
sys.stdin.read()
mark = sys.argv[1].encode()
for name in filter(str.isdecimal, os.listdir("/proc")):
    try:
        if mark in open(f"/proc/{name}/environ", "rb").read():
            os.kill(int(name), signal.SIGKILL)
    except OSError:
        pass
"""
"""Ends the processes of a test that was itself killed."""


@dataclass(frozen=True)
class RayNode:
    """A node: the value of ``MARK`` in its processes, and its folder, in which Ray keeps logs and sessions."""

    mark: str
    folder: Path
    head: bool


class Rays:
    """A context manager. Entering it starts the head node, ``add`` starts further nodes, and leaving it ends all nodes.

    ``dashboard`` is needed for the Jobs API. Without ``packages`` the nodes' Python has everything that is installed
    here except the repository's own packages, as on a remote node.
    """

    def __init__(
        self,
        *,
        cpus: float = 1,
        dashboard: bool = False,
        packages: bool = True,
        environment: Mapping[str, str] | None = None,
        ip: str = LOOPBACK,
        **head: object,
    ) -> None:
        """``head`` goes to ``start_head``: ``gpus``, ``memory``, ``resources``, ``within``. ``ip`` is the head's."""
        self.folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # short, since names of sockets are limited
        self.token_path = self.folder / "token"
        self.nodes: list[RayNode] = []
        self.head: RayNode | None = None
        self.port, self._dashboard_port, self._client_port = free_ports(3)
        self._dashboard = dashboard
        self._ip = ip
        self._head_options = {"cpus": cpus, "ip": ip, **head}
        self._environment = dict(environment or {})
        self._packages = packages
        self._python = Path(sys.executable)
        self._count_started = 0
        self._cleaner: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The value for ``--address`` of ``run``."""
        return f"{self._ip}:{self.port}"

    @property
    def dashboard_url(self) -> str:
        """The value for ``--address`` of ``submit``."""
        assert self._dashboard
        return f"http://127.0.0.1:{self._dashboard_port}"

    def __enter__(self) -> Self:
        try:
            self._cleaner = cleaner(self.folder.name)
            self.token_path.write_text(os.urandom(32).hex(), "utf-8")
            if not self._packages:
                self._python = bare_python(self.folder / "python")
            self.start_head()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def environment(self, packages: bool = True) -> dict[str, str]:
        """The environment of a process, with the token. With ``packages`` it can import the repository's packages."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != "PYTHONPATH"
        }
        own = {"RAY_AUTH_TOKEN_PATH": str(self.token_path)}
        path = {"PYTHONPATH": str(REPOSITORY)} if packages else {}
        return kept | SETTINGS | own | path | self._environment

    def python(
        self, *arguments: str, cwd: Path, timeout: float = 120.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run this Python with the token and the packages; ``-m pipeline`` is the command line."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start_head(self) -> RayNode:
        """Start a head node, always on the same ports. Nodes of an earlier head do not connect to it."""
        ports = [f"--port={self.port}", f"--ray-client-server-port={self._client_port}"]
        board = [f"--include-dashboard={'true' if self._dashboard else 'false'}"]
        if self._dashboard:
            board += ["--dashboard-host=127.0.0.1", f"--dashboard-port={self._dashboard_port}"]
        (self.head,) = self._start(1, True, ["--head", *ports, *board], **self._head_options)
        return self.head

    def restart_head(self) -> RayNode:
        """Kill the head and start another at the same address, without the state of the first."""
        assert self.head is not None
        self.kill(self.head)
        return self.start_head()

    def add(
        self,
        count: int = 1,
        *,
        cpus: float = 1,
        gpus: float = 0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        within: Sequence[str] = (),
        ip: str = LOOPBACK,
    ) -> list[RayNode]:
        """Start so many equal nodes at the same time. ``gpus`` is the number that they declare; ``memory`` is in bytes.

        ``within`` is a command that runs what follows it, such as ``without(folder)``.
        """
        options = [f"--address={self.address}"]
        amounts = {"cpus": cpus, "gpus": gpus, "memory": memory, "resources": resources}
        return self._start(count, False, options, within=within, ip=ip, **amounts)

    def processes(self, node: RayNode) -> list[psutil.Process]:
        """All processes of a node: Ray's own, its workers, and the drivers of jobs on it."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == node.mark:
                    # Workers write their title over their environment: they are found as children of their raylet.
                    found |= {one.pid: one for one in (process, *process.children(recursive=True))}
        return list(found.values())

    def kill(self, node: RayNode) -> None:
        """Kill all processes of a node; returns when they have ended."""
        left = self.processes(node)
        while left:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(left, timeout=10)
            left = [one for one in self.processes(node) if _alive(one)]
        if node in self.nodes:
            self.nodes.remove(node)

    def close(self) -> None:
        """End every node and remove its files."""
        for node in list(self.nodes):
            self.kill(node)
        if self._cleaner is not None:
            self._cleaner.communicate(timeout=30)  # it ends when its standard input is closed
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(
        self,
        count: int,
        head: bool,
        options: Sequence[str],
        *,
        within: Sequence[str] = (),
        ip: str = LOOPBACK,
        cpus: float = 1,
        gpus: float = 0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> list[RayNode]:
        """Start ``count`` nodes at the same time."""
        command = [*within, str(self._python), "-c", START, "start", "--dashboard-agent-listen-port=0"]
        command += [*options, "--include-log-monitor=false", f"--node-ip-address={ip}"]
        command += [f"--num-cpus={cpus:g}", f"--num-gpus={gpus:g}"]
        command += [f"--resources={json.dumps(dict(resources or {}))}", "--object-store-memory=100000000"]
        command += [] if memory is None else [f"--memory={memory}"]
        path = f"{self._python.parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated virtual environment
        environment = self.environment(self._packages) | {"PATH": path}
        begun = [self._begin(command, environment, head) for _ in range(count)]
        return [self._started(node, process, command, environment) for node, process in begun]

    def _begin(
        self, command: Sequence[str], environment: Mapping[str, str], head: bool
    ) -> tuple[RayNode, "subprocess.Popen[bytes]"]:
        self._count_started += 1
        node = RayNode(f"{self.folder.name}:{self._count_started}", self.folder / str(self._count_started), head)
        node.folder.mkdir()
        self.nodes.append(node)
        with (node.folder / "start.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, f"--temp-dir={node.folder}"],
                cwd=node.folder,
                env={**environment, MARK: node.mark, "RAY_TMPDIR": str(node.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return node, process

    def _started(
        self, node: RayNode, process: "subprocess.Popen[bytes]", command: Sequence[str], environment: Mapping[str, str]
    ) -> RayNode:
        """The node once it runs. Ray allows it half a minute, so a busy machine may need another attempt."""
        for _ in range(TRIES - 1):
            if process.wait(START_WITHIN) == 0:
                return node
            self.kill(node)
            node, process = self._begin(command, environment, node.head)
        if process.wait(START_WITHIN):
            raise RuntimeError(f"ray start failed: {(node.folder / 'start.log').read_text('utf-8')}")
        return node


def cleaner(name: str) -> "subprocess.Popen[bytes]":
    """A process that outlives this one, and then ends the nodes whose marks contain that name."""
    command = [sys.executable, "-c", CLEANER, f"{MARK}={name}:"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def bare_python(folder: Path) -> Path:
    """A Python with everything that is installed here except the repository's own packages."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # The folder is on the path, but its ``.pth`` files, by which an editable install is found, are not read.
    (site / "installed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", "utf-8")
    return folder / "bin" / "python"


def without(folder: Path) -> list[str]:
    """A command that runs its arguments in a mount namespace where ``folder`` is empty, as on another machine. Skips
    the test where the user may not mount."""
    command = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {shlex.quote(str(folder))} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("mounting a file system needs rights that this user lacks")
    return command


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free at the moment, each a different one. They lie between those that Ray gives its
    workers and those that the system gives out by itself, or another process might have them before they are used."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(range(20000, 32000), 100 + count):
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind((LOOPBACK, port))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports between 20000 and 32000")


def wait_until(what: str, holds: Callable[[], bool], within: float = 60.0, every: float = 0.2) -> None:
    """Wait until ``holds()`` is true. AssertionError after ``within`` seconds, with ``what``."""
    ends = time.monotonic() + within
    while not holds():
        assert time.monotonic() < ends, f"not within {within:g} s: {what}"
        time.sleep(every)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
