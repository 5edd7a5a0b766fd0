"""The state of a submitted run, read from its log: from the lines that ``RunView`` prints outside a terminal."""

import re
from collections.abc import Mapping

from pipeline.execution.job_env import BEGUN

STATES = {
    "start": "running",
    "pause": "paused",
    "resume": "running",
    "done": "done",
    "taken": "done",
    "FAIL": "failed",
    "lost": "lost",
}
"""The first word of a line -> the state of the stage that the line names."""

_LINE = re.compile(rf"^({'|'.join(STATES)})\s+(\S+)")
_ERROR = "stillhouse: "
_REMARKS = ("stillhouse: warning: ", "stillhouse: note: ")
"""How the program's lines begin that are no errors."""


def stages(log: str) -> Mapping[str, str]:
    """Stage -> its last state, in the order in which the stages started."""
    states: dict[str, str] = {}
    for line in log.splitlines():
        match = _LINE.match(line)
        if match:
            states[match[2]] = STATES[match[1]]
    return states


def begun(log: str) -> str:
    """The line that the driver prints when it begins to work; '' if it has not begun."""
    return next((line for line in log.splitlines() if line.startswith(BEGUN)), "")


def last_error(log: str) -> str:
    """The last error message of a run: why its request was refused, or which stage failed. '' if there is none."""
    messages = [line.removeprefix(_ERROR) for line in log.splitlines() if _is_error(line)]
    return messages[-1] if messages else ""


def _is_error(line: str) -> bool:
    return line.startswith(_ERROR) and not line.startswith(_REMARKS)


def tail(log: str, lines: int) -> str:
    """The last ``lines`` lines of a log."""
    return "\n".join(log.splitlines()[-lines:])
