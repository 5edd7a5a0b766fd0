"""The results of benchmarks, and their output."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.pairs import Summary

ENOUGH = 7
"""The least turns from which a goal counts as reached or not."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: rows of an epoch, turns of each comparison, threads of the computation."""

    rows: int
    turns: int
    threads: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of the design. It is reached when the median is between ``least`` and ``most``."""

    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. ``unit`` is empty for a ratio, and ``goal`` None where there is none. A value that does
    not vary is measured ``once``, and compared with its goal after that."""

    name: str
    value: Summary
    goal: Goal | None = None
    unit: str = ""
    note: str = ""
    once: bool = False

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.value.count < ENOUGH and not self.once:
            return "too few turns"
        return "reached" if self.goal.met(self.value.median) else "not reached"


def figure(value: float) -> str:
    """With three decimal places, or two significant digits where it is below 0.01."""
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def print_table(findings: Sequence[Finding], console: Console) -> None:
    table = Table(header_style="bold")
    for head in ("what", "median", "interval", "turns", "goal", "verdict", "beside it"):
        table.add_column(head, justify="right" if head in ("median", "turns") else "left", overflow="fold")
    for finding in findings:
        value, unit = finding.value, f" {finding.unit}" if finding.unit else ""
        table.add_row(
            finding.name,
            f"{figure(value.median)}{unit}",
            "once" if finding.once else f"{figure(value.low)} .. {figure(value.high)} ({value.coverage:.0%})",
            str(value.count),
            str(finding.goal) if finding.goal else "",
            finding.verdict,
            finding.note,
        )
    console.print(table)


def write_json(findings: Sequence[Finding], about: Mapping[str, object], path: Path) -> None:
    """``{"about": ..., "findings": [...]}``."""
    rows = [{**asdict(finding), "verdict": finding.verdict} for finding in findings]
    path.write_text(json.dumps({"about": about, "findings": rows}, indent=1) + "\n", "utf-8")
