"""Runs of the command line in processes that start at once, since they are forked from one that has imported torch.

After the fork they call the ``main`` of ``python -m pipeline``. A process that forks such drivers must not have
threads.
"""

import atexit
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LEARN = "STILLHOUSE_BENCHMARK_MODULES"
"""The variable that names a file into which a driver writes the modules that it had imported when it ended."""


def import_all(listed: Path) -> None:
    """Import the modules that an earlier driver listed in this file, except those that cannot be imported."""
    for name in listed.read_text("utf-8").split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)


@dataclass
class Driver:
    """A run that was started: its process, and the file that gets its output and errors."""

    pid: int
    log: Path
    code: int | None = field(default=None)

    def poll(self) -> int | None:
        """Its exit code, once it has one: minus the signal that ended it, if one did."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float = 600.0) -> int:
        """Wait for its end; the exit code. Raises TimeoutError after so many seconds."""
        ends = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > ends:
                raise TimeoutError(f"it is still running after {seconds:g} s: {self.output()[-2000:]}")
            time.sleep(0.02)
        assert self.code is not None
        return self.code

    def send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        """Kill it and all its descendants."""
        below = family(self.pid)[1:] if self.poll() is None else []
        self.send(signal.SIGKILL)
        for one in below:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        self.wait()

    def cpu(self) -> float:
        """Processor seconds that it and its descendants have used so far."""
        used = 0.0
        for process in family(self.pid):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used += times.user + times.system
        return used

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text("utf-8", "replace")


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants; [] when it has ended."""
    try:
        one = psutil.Process(pid)
        return [one, *one.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def start(arguments: Sequence[str], log: Path, cwd: Path, environment: Mapping[str, str]) -> Driver:
    """Start ``stillhouse ARGUMENTS`` in ``cwd``, with ``environment`` added to that of this process."""
    assert threading.active_count() == 1
    pid = os.fork()
    if pid:
        return Driver(pid, log)
    code = 70
    try:
        code = _in_the_child(arguments, log, cwd, environment)
    finally:
        os._exit(code)


def _in_the_child(arguments: Sequence[str], log: Path, cwd: Path, environment: Mapping[str, str]) -> int:
    import traceback

    from pipeline.cli.main import main

    os.setsid()
    os.chdir(cwd)
    os.environ.update(environment)
    sys.stdout.flush()
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # the process's own
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # the process's own
    sys.argv = ["stillhouse", *arguments]
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    if LEARN in environment:
        Path(environment[LEARN]).write_text("\n".join(sys.modules), "utf-8")
    # As the interpreter does when it ends.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
