"""The command ``doctor``."""

import os
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.markup import escape

from cluster.resources import Place
from pipeline.doctor.checks import Finding, all_findings

MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[red]problem[/]"}


def doctor(storage: str, address: str | None, open_cluster: Callable[[str], Place], console: Console) -> int:
    """Print what was found; ``open_cluster`` as in ``check_ray``. Returns 1 if there is a problem, and 0 otherwise."""
    found = all_findings(storage, address, os.environ, open_cluster)
    print_findings(found, console)
    return 1 if any(finding.state == "problem" for finding in found) else 0


def print_findings(found: Sequence[Finding], console: Console) -> None:
    """A line for each finding, and one below it for its remedy."""
    wide = max(len(finding.what) for finding in found)
    for finding in found:
        mark = MARKS[finding.state] + " " * (len("warning") - len(finding.state))
        console.print(f"{mark}  {escape(finding.what):<{wide}}  {escape(finding.text)}", soft_wrap=True)
        if finding.remedy:
            console.print(f"{'':<{len('warning') + wide + 4}}{escape(finding.remedy)}", soft_wrap=True)
