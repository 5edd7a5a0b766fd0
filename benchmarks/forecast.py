"""How well ``plan --probe`` states the time of a first run: the stated time / the time that the run then takes.

Each turn takes the data and the recipe of docs/tutorial.md to an empty storage, plans them with ``--probe``, and runs
them right after it. The machine has to be quiet: a run that has other programs beside it than the probe had takes
another time.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.findings import Finding, Goal, print_table
from benchmarks.pairs import hardware, load_warning, summary

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
GOAL = Goal(least=0.8, most=1.25)
"""Within 25 percent."""


@dataclass(frozen=True, slots=True)
class ForecastTurn:
    """Seconds that the plan stated, that the probe took, and that the run took."""

    stated: float
    probe: float
    taken: float


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks forecast", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=7, help="probes and runs (7)")
    parser.add_argument("--inline", action="store_true", help="runs without Ray")
    parser.add_argument("--recipe", type=Path, help="another recipe than the tutorial's")
    given = parser.parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    console.print(f"hardware: {hardware()}", soft_wrap=True)
    turns = []
    with tempfile.TemporaryDirectory(prefix="stillhouse-forecast-") as folder:
        recipe = given.recipe.resolve() if given.recipe else write_tutorial(Path(folder))
        for number in range(given.turns):
            if warning := load_warning():
                console.print(warning)
            turn = measured(recipe, Path(folder), number, given.inline)
            turns.append(turn)
            console.print(
                f"stated {turn.stated:.0f} s, taken {turn.taken:.0f} s, ratio {turn.stated / turn.taken:.2f}; "
                f"the probe took {turn.probe:.0f} s"
            )
    ratios = [turn.stated / turn.taken for turn in turns]
    probes = [turn.probe for turn in turns]
    print_table(
        [
            Finding("time stated by plan --probe / time of the run", summary(ratios), GOAL),
            Finding("plan --probe", summary(probes), unit="s"),
        ],
        console,
    )
    return 0


def write_tutorial(folder: Path) -> Path:
    """Write the tutorial's data and its recipe into ``folder``; the recipe's path."""
    found = re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for name, text in found:
        (folder / name).write_text(text, "utf-8")
    subprocess.run([sys.executable, "make_data.py"], cwd=folder, check=True)
    return folder / "tickets.yaml"


def measured(recipe: Path, folder: Path, number: int, inline: bool) -> ForecastTurn:
    """Plan with a probe and run, in a storage that is empty."""
    storage = ["--storage", str(folder / f"runs-{number}"), *(["--inline"] if inline else [])]
    began = time.perf_counter()
    steps = json.loads(_stillhouse(recipe, "plan", "--probe", "--format", "json", *storage))
    planned = time.perf_counter()
    _stillhouse(recipe, "run", *storage)
    ended = time.perf_counter()
    unknown = [step["node"] for step in steps if step["ends"] is None]
    if unknown:
        raise RuntimeError(f"plan --probe states no time for {', '.join(unknown)}")
    return ForecastTurn(max(step["ends"] for step in steps), planned - began, ended - planned)


def _stillhouse(recipe: Path, command: str, *options: str) -> str:
    """The output of a command. Raises RuntimeError if it fails."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", command, recipe.name, *options],
        cwd=recipe.parent,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise RuntimeError(f"{command}: exit {ended.returncode}: {ended.stderr.strip()}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
