"""How long a user waits for a plan, and for a run that has nothing to do: whole commands, from start to exit.

Graphs of 10, 100 and 1,000 nodes: three methods, and as many seeds as that needs. ``nothing built`` is an empty
storage; ``all built`` has a record and files for each node, as a run would have left them.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, cpu_median, interleaved, summary, timed, walls
from benchmarks.scene import Scene
from pipeline.artifacts.record import File, Record, record_name

SEEDS = {10: 1, 100: 16, 1000: 166}
"""Nodes -> seeds: a corpus, a teacher, its evaluation and its store, and two nodes a student."""
FILES = ("model/config.json", "model/model.safetensors", "model/tokenizer.json", "model/README.md", "history.json")
HEAVY = ("ray", "torch", "transformers", "datasets", "sklearn")
GOALS = {("run", "all built", 10): Goal(most=1.0), ("plan", "nothing built", 1000): Goal(most=2.0)}


def measure(scene: Scene) -> list[Finding]:
    """One finding for each command, state and size, with the heavy modules that the command imports."""
    root = scene.root / "plans"
    cases = {}
    for nodes, seeds in SEEDS.items():
        recipe = write_recipe(root / f"{nodes}.yaml", seeds)
        empty, full = root / f"empty-{nodes}", root / f"full-{nodes}"
        assert build(recipe, full) == nodes, f"the recipe has other than {nodes} nodes"
        cases["plan", "nothing built", nodes] = command("plan", recipe, empty)
        cases["plan", "all built", nodes] = command("plan", recipe, full)
        cases["run", "all built", nodes] = command("run", recipe, full)
    names = {" ".join(map(str, case)): case for case in cases}
    measures: dict[str, Callable[[], Cost]] = {name: _measure(cases[case]) for name, case in names.items()}
    turns = interleaved(measures, scene.scale.turns)
    return [
        Finding(
            f"{case[0]}, {case[2]} nodes, {case[1]}",
            summary(walls(turns, name)),
            GOALS.get(case),
            "s",
            f"cpu {cpu_median(turns, name):.2f} s; imports {', '.join(imported(cases[case])) or 'nothing heavy'}",
        )
        for name, case in names.items()
    ]


def write_recipe(path: Path, seeds: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "name: plan\ntask: reviews\n"
        "teacher: {model: sentence-transformers/all-MiniLM-L6-v2, finetune: {epochs: 1}}\n"
        "student: {label: two, cut: {of: teacher, layers: [3, 6]}}\nmethod: [no-kd, vanilla-kd, annealing-kd]\n"
        f"train: {{epochs: 2}}\nseeds: {list(range(seeds))}\n",
        "utf-8",
    )
    return path


def build(recipe: Path, storage: Path) -> int:
    """Write a record and small files for every node of the plan. Returns the number of nodes."""
    nodes = json.loads(called((*command("plan", recipe, storage), "--format", "json")).stdout)
    for node in nodes:
        write_artifact(storage, node)
    assert "nothing to do" in called(command("run", recipe, storage)).stdout
    return len(nodes)


def write_artifact(storage: Path, node: Mapping[str, Any]) -> None:
    scores = {split: {"accuracy": 90.0} for split in ("validation", "test")}
    facts = {"rows": 1600, "scores": scores, "last_epoch_scores": scores, "parameters": 1, "train_seconds": 1.0}
    record = Record(
        stage=node["stage"],
        version=1,
        key=node["key"],
        name=node["node"],
        recipe="plan",
        spec={},
        inputs=node["inputs"],
        attempt="1",
        files=tuple(File(name, len(name), "") for name in FILES),
        facts=facts,
        code="",
        workers=1,
        threads=1,
        seconds=1.0,
        committed="2024-01-01T00:00:00Z",
        hardware={},
    )
    for name in FILES:
        path = storage / record.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    (storage / record_name(record.stage, record.key)).write_text(json.dumps(asdict(record)), "utf-8")


def command(verb: str, recipe: Path, storage: Path) -> Sequence[str]:
    return ("-m", "pipeline", verb, str(recipe), "--storage", str(storage))


def _measure(arguments: Sequence[str]) -> Callable[[], Cost]:
    return lambda: timed(lambda: called(arguments))


def called(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Python to its end. Raises RuntimeError with its error output if it fails."""
    ended = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit {ended.returncode}: {ended.stderr.strip()}")
    return ended


def imported(arguments: Sequence[str]) -> list[str]:
    """Which of ``HEAVY`` the command imports."""
    listed = called(("-X", "importtime", *arguments))
    modules = {
        line.rsplit("|", 1)[-1].strip() for line in listed.stderr.splitlines() if line.startswith("import time:")
    }
    return [name for name in HEAVY if name in modules]


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["plan_time", *sys.argv[1:]]))
