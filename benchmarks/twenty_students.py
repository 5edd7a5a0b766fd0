"""Twenty students through Ray / the same twenty inline: whole commands over copies of one storage.

The storage holds the corpus, the teacher and its store already, so only the students and their evaluations are built.
In both cases a stage gets its default CPUs, which are all those of a small machine, so students train one after
another. The difference is Ray: its start, the start of its workers, and the transfer of each job to them.
"""

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.findings import ENOUGH, Finding, Goal
from benchmarks.pairs import Cost, Turn, ratios, summary, timed, walls
from benchmarks.plan_time import called, command
from benchmarks.scene import Scene

STUDENTS = 20
ROWS_AN_EPOCH = 100
"""Rows of the scale for each epoch of a student: 5 at 512 rows, where a student trains for some 10 s on two cores."""
PAIRS = 3
"""A pair takes about nine minutes, so there are fewer than other benchmarks have turns. A quick run has one."""
WAYS: dict[str, Sequence[str]] = {"ray": (), "inline": ("--inline",)}


def measure(scene: Scene) -> list[Finding]:
    """The ratio of the commands' times, with the time of each and of one student's training."""
    base = prepared(scene)
    turns: list[Turn] = []
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(PAIRS if scene.scale.turns >= ENOUGH else 1):
        turn: dict[str, Cost] = {}
        for name in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            storage = shutil.copytree(base, base.with_name(f"{name}-{number}"))
            turn[name] = run(storage, WAYS[name])
            seconds[name] += train_seconds(storage)
            shutil.rmtree(storage)
        turns.append(turn)
    notes = [
        f"{name} {statistics.median(walls(turns, name)):.0f} s, a student trains {statistics.median(found):.1f} s"
        for name, found in seconds.items()
    ]
    value = summary(ratios(turns, "ray", "inline"))
    return [Finding(f"{STUDENTS} students, Ray / inline", value, Goal(most=1.5), note="; ".join(notes))]


def prepared(scene: Scene) -> Path:
    """A storage with everything that the students need, built by a run of another student."""
    root = scene.root / "twenty"
    root.mkdir()
    write_recipe(root / "one.yaml", scene.scale.rows, [STUDENTS])
    write_recipe(root / "twenty.yaml", scene.scale.rows, list(range(STUDENTS)))
    base = root / "base"
    called((*command("run", root / "one.yaml", base), "--inline"))
    planned = called((*command("plan", root / "twenty.yaml", base), "--format", "json")).stdout
    builds = [step["node"] for step in json.loads(planned) if step["action"] == "build"]
    assert len(builds) == 2 * STUDENTS, f"more is left to build than students and evaluations: {builds}"
    return base


def write_recipe(path: Path, rows: int, seeds: list[int]) -> None:
    path.write_text(
        "name: students\ntask: reviews\n"
        f"data: {{generated: {{train: {rows}, validation: 64, test: 64}}, holdout_min_rows: 0}}\n"
        "teacher: {model: sentence-transformers/all-MiniLM-L6-v2, finetune: {epochs: 1}}\n"
        "student: {label: two, cut: {of: teacher, layers: [3, 6]}}\nmethod: vanilla-kd\n"
        f"train: {{epochs: {max(1, rows // ROWS_AN_EPOCH)}}}\nseeds: {seeds}\n",
        "utf-8",
    )


def run(storage: Path, way: Sequence[str]) -> Cost:
    """The command that trains the twenty, from start to exit."""
    arguments = (*command("run", storage.with_name("twenty.yaml"), storage), *way)
    return timed(lambda: called(arguments))


def train_seconds(storage: Path) -> list[float]:
    """The training seconds in the record of every student in the storage."""
    records = [json.loads(path.read_text("utf-8")) for path in storage.glob("distil/*/record.json")]
    return [record["facts"]["train_seconds"] for record in records if record["name"].startswith("distil/")]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["twenty_students", *sys.argv[1:]]))
