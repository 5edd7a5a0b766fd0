"""From the command to the first training steps: a run in an empty storage, and what it took until each of its stages.

    python -m benchmarks.first_step [RECIPE] [--set KEY=VALUE ...] [--code CHECKOUT ...] [--turns N]

Prints, for each checkout (this repository, where left out), the seconds and the CPU seconds of all processes of the run
until the first stage started, until the first training had trained rows, until the first student of a method had, and
until the end: medians over the turns, in which the checkouts alternate. The times are those of the run's own event
log. On a busy machine only CPU seconds are comparable.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.driver import family

ROOT = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.25
"""Seconds between two readings of the processes' CPU time."""
MARKS = ("first stage", "first training", "first student", "end")

Reading = tuple[float, float]
"""(seconds, CPU seconds) since the start of the command."""


def timed_run(arguments: Sequence[str], code: Path, storage: Path) -> dict[str, Reading]:
    """Run the recipe with the packages of ``code``; mark -> reading. Raises CalledProcessError where the run fails."""
    command = [sys.executable, "-m", "pipeline", "run", *arguments, "--storage", str(storage)]
    began, spent, samples = time.time(), dict[tuple[int, float], float](), list[Reading]()
    with (storage.parent / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=code, env={**os.environ, "PYTHONPATH": str(code)}, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            samples.append((time.time() - began, cpu_seconds(process.pid, spent)))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        print((storage.parent / "output").read_text("utf-8"), file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    moments = {**marked(storage, began), "end": time.time() - began}
    return {name: (at, max((cpu for when, cpu in samples if when <= at), default=0.0)) for name, at in moments.items()}


def cpu_seconds(pid: int, spent: dict[tuple[int, float], float]) -> float:
    """The CPU seconds of the process and all that it has started. ``spent`` keeps those of each process, by id and
    start, so that those that have ended still count."""
    for process in family(pid):
        try:
            times = process.cpu_times()
            spent[process.pid, process.create_time()] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return sum(spent.values())


def marked(storage: Path, began: float) -> dict[str, float]:
    """Mark -> seconds after ``began``, from the logs of the storage's only run."""
    (logs,) = (storage / ".logs").iterdir()
    (first, *_) = [at for event, at in events(logs / "events.jsonl", "start")]
    trained = {
        path.stem: min((at for _, at in events(path, "progress", "note", "done")), default=float("inf"))
        for path in logs.glob("*.jsonl")
        if path.name.startswith(("finetune", "distil"))
    }
    students = [at for name, at in trained.items() if name.startswith("distil")]
    found = {"first stage": first, "first training": min(trained.values()), "first student": min(students)}
    return {name: at - began for name, at in found.items()}


def events(path: Path, *kinds: str) -> Iterator[tuple[Mapping[str, Any], float]]:
    """(event, seconds since 1970) of each line of these kinds; a note counts only where it tells of an epoch."""
    for line in path.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["event"] in kinds and (event["event"] != "note" or event["text"].startswith("epoch ")):
            yield event, datetime.fromisoformat(event["time"]).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "recipes" / "quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--code", action="append", type=Path, metavar="CHECKOUT")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    arguments = [str(given.recipe.resolve()), *(word for value in given.set for word in ("--set", value))]
    codes = [path.resolve() for path in given.code or [ROOT]]
    turns: dict[Path, list[dict[str, Reading]]] = {code: [] for code in codes}
    for turn in range(given.turns):
        for code in codes[:: 1 if turn % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory(prefix="stillhouse-first-") as folder:
                turns[code].append(timed_run(arguments, code, Path(folder) / "runs"))
    for code, readings in turns.items():
        print(code)
        for mark in MARKS:
            seconds, cpu = (statistics.median(one[mark][part] for one in readings) for part in (0, 1))
            print(f"  {mark:15} {seconds:7.1f} s {cpu:7.1f} s of CPU")


if __name__ == "__main__":
    main()
