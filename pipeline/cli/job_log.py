"""What the log of a run says of it: the lines that ``RunView`` prints outside a terminal, read back."""

import re
from collections.abc import Mapping

from pipeline.execution.job_env import BEGUN

STATES = {"start": "running", "done": "done", "taken": "done", "FAIL": "failed", "lost": "lost"}
"""The first word of a line -> what it says of the stage that it names."""

_LINE = re.compile(rf"^({'|'.join(STATES)})\s+(\S+)")
_REFUSED = "stillhouse: "


def stages(log: str) -> Mapping[str, str]:
    """Stage -> its state, in the order in which they were first told of."""
    found: dict[str, str] = {}
    for line in log.splitlines():
        told = _LINE.match(line)
        if told:
            found[told[2]] = STATES[told[1]]
    return found


def begun(log: str) -> str:
    """What the driver said when it began its work; '' where it has not."""
    return next((line for line in log.splitlines() if line.startswith(BEGUN)), "")


def refusal(log: str) -> str:
    """The last word of a run that ended: why it did not do what was asked, or what failed."""
    told = [line.removeprefix(_REFUSED) for line in log.splitlines() if line.startswith(_REFUSED)]
    return told[-1] if told else ""


def tail(log: str, lines: int) -> str:
    """The last lines."""
    return "\n".join(log.splitlines()[-lines:])
