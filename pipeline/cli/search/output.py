"""The trials of a search as a table and as JSON, and the best of them as lines for the recipe."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.graph.nodes import Edge
from pipeline.monitor.format import duration_text
from pipeline.recipe import ValueList, ValueRange
from pipeline.recipe.yaml import to_yaml
from pipeline.search.trial_recipe import SearchedRecipe
from pipeline.search.trials import TrialResult, goodness
from pipeline.search.values import text_of, value_text

STYLES = {"done": "", "failed": "red", "open": "dim"}
NEAR = 0.05
"""The share of a range at each of its ends in which the best value may have a better one outside."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search came to. ``results`` has the best trial first; ``metric`` is that of their scores, and
    ``select_by`` the rule by which they are compared. ``trained`` is the number of trainings that this call has begun;
    ``warnings`` are lines about the values of some trials, ``refused`` such about combinations that the recipe does not
    take. ``exhausted``: there are fewer combinations than trials. ``outlook`` is what a dry run found to be missing."""

    recipe: str
    searched: SearchedRecipe
    results: Sequence[TrialResult]
    metric: str
    select_by: str
    trained: int
    warnings: Sequence[str]
    refused: Sequence[str]
    exhausted: bool
    dry_run: bool
    outlook: str

    @property
    def best(self) -> TrialResult | None:
        """The best trial; None while none is done."""
        first = self.results[0] if self.results else None
        return first if first is not None and goodness(first, self.select_by) is not None else None

    def count(self, status: str) -> int:
        """How many trials have this status."""
        return sum(result.status == status for result in self.results)


def as_json(findings: Findings) -> str:
    """A JSON object: the search, its trials with the best first, the number of the best, and its method's block."""
    search, best = findings.searched.search, findings.best
    document = {
        "recipe": findings.recipe,
        "task": search.task,
        "method": search.method,
        "student": search.student,
        "seed": search.seed,
        "by": search.by,
        "metric": findings.metric,
        "select_by": findings.select_by,
        "trained": findings.trained,
        "trials": [_item(result) for result in findings.results],
        "best": None if best is None else best.trial.number,
        "block": None if best is None else findings.searched.block(best.trial.values),
        "notes": list(notes(findings)),
    }
    return json.dumps(document, indent=1)


def _item(result: TrialResult) -> dict[str, Any]:
    trial = result.trial
    return {
        "trial": trial.number,
        "values": dict(trial.values),
        "status": result.status,
        "score": result.score,
        "loss": _finite(result.loss),
        "epoch": result.epoch,
        "seconds": result.seconds,
        "node": trial.node.name,
        "key": trial.node.key,
        "artifact": result.artifact,
        "problem": result.problem,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def print_findings(findings: Findings, console: Console) -> None:
    """Print the table of trials, what is to be noted, and the best trial with the lines of the recipe that make it a
    method's settings."""
    search, best = findings.searched.search, findings.best
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    heads = ("trial", *search.vary, findings.metric, "loss", "epoch", "time", "status")
    for head in heads:
        table.add_column(Text(head), justify="left" if head == "status" else "right", overflow="fold")
    for result in findings.results:
        style = "bold green" if result is best else STYLES[result.status]
        table.add_row(*map(Text, _cells(result, findings)), style=style)
    if findings.results:
        console.print(table)
    console.print(_counts(findings), soft_wrap=True, markup=False)
    for line in notes(findings):
        console.print(line, soft_wrap=True, markup=False)
    if best is not None:
        console.print(_best_line(best, findings), soft_wrap=True, markup=False)
        console.print(_where(findings), soft_wrap=True, markup=False)
        console.print(to_yaml([findings.searched.block(best.trial.values)]), soft_wrap=True, markup=False)


def _cells(result: TrialResult, findings: Findings) -> Iterator[str]:
    yield str(result.trial.number)
    for path in findings.searched.search.vary:
        yield value_text(result.trial.values[path])
    yield "-" if result.score is None else f"{result.score:.2f}"
    yield "-" if result.loss is None else f"{result.loss:.4f}"
    yield "-" if result.epoch is None else str(result.epoch)
    yield "-" if result.seconds is None else duration_text(result.seconds)
    yield {"open": "to be trained" if findings.dry_run else "not trained"}.get(result.status, result.status)


def _counts(findings: Findings) -> str:
    """One line: how many trials of the search are done, have failed, and are missing."""
    search = findings.searched.search
    parts = [f"{findings.count('done')} of {search.wanted} trials done"]
    parts += [f"{findings.count('failed')} failed"] if findings.count("failed") else []
    if findings.dry_run and search.by == "tpe":
        left = search.wanted - len(findings.results)
        parts += [f"{left} more that follow from the scores before them"] if left > 0 else []
    elif not findings.dry_run:
        parts.append(f"{findings.trained} trained now")
    start = (
        f"{findings.recipe}: search by {search.by} for {search.method}, student {search.student}, task {search.task}"
    )
    return f"{start}: {', '.join(parts)}"


def notes(findings: Findings) -> Iterator[str]:
    """What a reader should know about the search, a line each."""
    if findings.outlook:
        yield findings.outlook
    failed = [result for result in findings.results if result.status == "failed"]
    if failed:
        first = failed[0]
        yield (
            f"failed trials: {len(failed)}, such as trial {first.trial.number} ({first.problem}); none is run again "
            "without --retry"
        )
    if findings.refused:
        yield (
            f"combinations of values that the recipe does not take are left out: {len(findings.refused)}, such as "
            f"{findings.refused[0]}"
        )
    if findings.exhausted:
        yield "there are no further combinations of values: give more values or wider ranges"
    if findings.warnings:
        yield (
            f"warning: schedules of trials that are probably shorter than intended: {len(findings.warnings)}, such as "
            f"{findings.warnings[0]}"
        )
    if findings.best is not None and not findings.dry_run:
        yield from _ends(findings, findings.best)


def _ends(findings: Findings, best: TrialResult) -> Iterator[str]:
    """A line for each path whose best value is at an end of the search, or near one."""
    for path, values in findings.searched.search.vary.items():
        value = best.trial.values[path]
        side = _side_of_list(values, value) if isinstance(values, ValueList) else _side_of_range(values, value)
        if side:
            yield f"the best {path}, {value_text(value)}, is {side} of the search; a better one may lie outside"


def _side_of_list(values: ValueList, value: Any) -> str:
    numbers = [one for one in values.values if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) < 3 or len(numbers) < len(values.values):
        return ""
    return "the smallest" if value == min(numbers) else "the largest" if value == max(numbers) else ""


def _side_of_range(values: ValueRange, value: float) -> str:
    scale = math.log if values.log else float
    share = (scale(value) - scale(values.low)) / (scale(values.high) - scale(values.low))
    return "near the lower end" if share <= NEAR else "near the upper end" if share >= 1 - NEAR else ""


def _best_line(best: TrialResult, findings: Findings) -> str:
    score = f"{findings.metric} {best.score:.2f}, loss {best.loss:.4f}"
    rows = _held_out_rows(best)
    of = f" of {rows:,} rows" if rows else ""
    return f"best: trial {best.trial.number} ({text_of(best.trial.values)}): {score} on the held-out slice{of}"


def _held_out_rows(result: TrialResult) -> int | None:
    corpus = result.trial.node.inputs.get("corpus")
    splits = corpus.source.splits if isinstance(corpus, Edge) else None
    return None if splits is None else splits.held_out


def _where(findings: Findings) -> str:
    """Where the lines belong in the recipe."""
    search, overrides = findings.searched.search, findings.searched.tree.get("overrides")
    own = overrides.get(search.task) if isinstance(overrides, dict) else None
    inside = f"overrides.{search.task}." if isinstance(own, dict) and own.get("method") is not None else ""
    return f"in the recipe, in the place of {search.method} in the list {inside}method:"
