"""Wait until the storage of a running process shows that it has come to a certain point."""

import subprocess
import time
from collections.abc import Callable

from project import Project

TIMEOUT = 180.0
"""Seconds until waiting fails: long, as the machine may be busy."""


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Return when ``condition`` holds. AssertionError if the process ends first, or after ``TIMEOUT`` seconds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the condition was not met; {process.returncode}: {process.communicate()}")
        time.sleep(0.005)


def log_contains(project: Project, node: str, text: str) -> Callable[[], bool]:
    """A condition: the log of ``node``, in any run, contains ``text``."""
    name = f"{node.replace('/', '.')}.log"

    def condition() -> bool:
        return any(text in path.read_text("utf-8") for path in (project.storage / ".logs").glob(f"*/{name}"))

    return condition


def attempt_contains(project: Project, pattern: str) -> Callable[[], bool]:
    """A condition: some attempt's folder contains a file that matches ``pattern``."""

    def condition() -> bool:
        return any((project.storage / ".work").glob(f"*/*/{pattern}"))

    return condition
