"""To stop a run at a moment of one's choice: wait until its storage shows how far it is."""

import subprocess
import time
from collections.abc import Callable

from house import House

LONGEST = 180.0
"""Seconds to wait for a moment, on a machine that is busy with much else."""


def wait_for(moment: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Return when the moment has come. AssertionError when the process ends first, or in ``LONGEST`` seconds."""
    deadline = time.monotonic() + LONGEST
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the moment did not come; {process.returncode}: {process.communicate()}")
        time.sleep(0.005)


def log_says(house: House, node: str, text: str) -> Callable[[], bool]:
    """The log of ``node`` in any run holds ``text``."""
    name = f"{node.replace('/', '.')}.log"

    def moment() -> bool:
        return any(text in path.read_text("utf-8") for path in (house.storage / ".logs").glob(f"*/{name}"))

    return moment


def work_holds(house: House, pattern: str) -> Callable[[], bool]:
    """Some attempt holds a file that matches ``pattern``."""

    def moment() -> bool:
        return any((house.storage / ".work").glob(f"*/*/{pattern}"))

    return moment
