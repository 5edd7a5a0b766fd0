"""Run all benchmarks, or those named, and print one table beside the design's goals.

    python -m benchmarks [NAME ...] [--quick] [--threads N] [--turns N] [--json PATH]
    python -m benchmarks batch_nodes|forecast|gpu|power|ratios|reliability ...    programs with their own --help

Writes nothing but ``--json``. Figures of a quick run are too few to judge by.
"""

import argparse
import hashlib
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.findings import Finding, Scale, print_table, write_json
from benchmarks.pairs import hardware, load_warning

NAMES = (
    "loop_vs_bare",
    "stored_vs_none",
    "train_options",
    "minimax",
    "mate",
    "live_vs_store",
    "images",
    "dump_vs_bare",
    "store_bytes",
    "decode",
    "columns_read",
    "memory",
    "knn",
    "ray_vs_inline",
    "plan_time",
    "scheduling",
    "peers",
    "break_even",
    "growth",
    "twenty_students",
)
PROGRAMS = ("batch_nodes", "forecast", "gpu", "power", "ratios", "reliability")
"""Programs that run alone: they have no turns, and take long."""
FROZEN = ("bare_loop", "bare_forward", "bare_gpu", "bare_mate", "original_loop", "original_mate", "textbrewer_loop")
FULL = Scale(rows=512, turns=9, threads=1)
QUICK = Scale(rows=128, turns=3, threads=1)


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments name. Returns the exit code: 0 when all have run, whatever they measured."""
    if arguments and arguments[0] in PROGRAMS:
        program: int = importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
        return program
    given = parse(arguments)
    usual = QUICK if given.quick else FULL
    scale = Scale(usual.rows, given.turns or usual.turns, given.threads)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    start = time.perf_counter()
    about = {"hardware": hardware(), "versions": versions(), "scale": asdict(scale), "frozen": frozen()}
    for name, value in about.items():
        console.print(f"{name}: {value}", soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="stillhouse-bench-") as folder:
        findings = measured(given.names or NAMES, Path(folder), scale, console)
    print_table(findings, console)
    console.print(f"{time.perf_counter() - start:.0f} s in all")
    if given.json:
        write_json(findings, about, given.json)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns: does it run?")
    parser.add_argument("--threads", type=int, default=1, help="threads of the computation (1)")
    parser.add_argument("--turns", type=int, help=f"turns of each comparison ({FULL.turns})")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the findings there too")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"{unknown[0]} is no benchmark; there are {', '.join(NAMES)}")
    return given


def measured(names: Sequence[str], folder: Path, scale: Scale, console: Console) -> list[Finding]:
    """The findings of the benchmarks ``names``. Prints a warning before one that starts on a busy machine."""
    from benchmarks.scene import make  # torch: after the arguments are known to be right

    os.environ["STILLHOUSE_CACHE"] = str(folder / "decoded")  # nothing is left in the user's own cache
    scene = make(folder, scale)
    console.print(f"rows: {len(scene.train)} of {scene.meta.task.name}, {scene.train.costs.mean():.1f} tokens each")
    findings: list[Finding] = []
    for name in names:
        warning = load_warning()
        if warning:
            console.print(f"{name}: {warning}")
        findings += importlib.import_module(f"benchmarks.{name}").measure(scene)
    return findings


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ray", "pyarrow", "numpy"))


def frozen() -> str:
    """The frozen scripts and their sha256: figures of two versions can be compared where these are equal."""
    folder = Path(__file__).parent
    digests = {name: hashlib.sha256((folder / f"{name}.py").read_bytes()).hexdigest() for name in FROZEN}
    return ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
