"""What training and the teacher's dump cost on a GPU, beside bare PyTorch on the same batches.

    python -m benchmarks gpu [--device cuda:0] [--rows N] [--turns N] [--seconds N] [--only PART ...] [--json PATH]
    python -m benchmarks gpu --device cpu --tiny        run every path at a small size, without a GPU

Needs torch, transformers, pyarrow, tensorboardX, scikit-learn and pydantic; Ray, FAISS and datasets are not
imported. Rows are those of MNLI where the data folder has them (``STILLHOUSE_DATA``, or ``../shared/data``), else the
project's own generated reviews; the tokenizer's vocabulary is learned from them. Models have random weights: what
weights hold changes no time. Each ratio is our seconds / the bare script's: of a dump from its first shard to its last,
of a training those of an epoch's steps, once the trainings that run as CUDA graphs have captured them. Loading a model
and scoring an epoch are part of neither side.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import transformers
from rich.console import Console

from benchmarks.findings import Finding, print_table, write_json
from benchmarks.gpu_scene import Epochs, GpuScene, Scale, Shape, Way, largest_difference
from benchmarks.pairs import hardware
from stages.models.loading import quieten
from stages.training.steps.graphs import CAPTURED

CHECKED_STEPS, GRAPH_STEPS = 5, 24
TOLERANCE, GRAPH_TOLERANCE = 1e-3, 2e-2
"""Relative differences allowed between the losses of a step: of the device and the CPU in float32 without dropout, as
both sum in other orders and AdamW amplifies what that changes in gradients near 0; and of captured steps and the same
steps kernel by kernel in bfloat16, whose kernels may sum in other orders."""

BASE, SMALL, THREE, LARGE = Shape(6, 768, 12), Shape(2, 384, 12), Shape(3, 384, 12), Shape(24, 1024, 16)
MINIATURE = Shape(2, 32, 2)
ALL: tuple[Way, ...] = ("kernels", "graphs")


@dataclass(frozen=True)
class Plan:
    """What one call of the script measures."""

    scale: Scale
    trainings: Sequence[Epochs] = (
        Epochs(BASE, "bfloat16", 32, 2, ALL),
        Epochs(SMALL, "bfloat16", 32, 2, ALL),
        Epochs(BASE, "bfloat16", 256, 5, ALL),
        Epochs(BASE, "float32", 32, 2, ALL),
        Epochs(SMALL, "float32", 32, 2, ALL),
        Epochs(THREE, "bfloat16", 32, 4, (), beside=True),
    )
    compiled: Sequence[Epochs] = (
        Epochs(BASE, "bfloat16", 32, 2, ("compiled",)),
        Epochs(BASE, "bfloat16", 256, 5, ("compiled",)),
    )
    teacher: Shape = LARGE
    checked: Shape = SMALL
    student: Shape = THREE
    students: int = 16
    student_epochs: int = 4


FULL = Plan(Scale(4096, 32768, 3, 8192))
TINY = Plan(
    Scale(192, 192, 1, 128),
    (
        Epochs(MINIATURE, "bfloat16", 32, 2, ("kernels",)),
        Epochs(MINIATURE, "float32", 64, 2, ("kernels",)),
        Epochs(MINIATURE, "float32", 32, 2, (), beside=True),
    ),
    (),
    Shape(3, 32, 2),
    MINIATURE,
    MINIATURE,
    2,
    2,
)
PARTS = ("checks", "dump", "beside", "training", "students", "compiled")


def main(arguments: Sequence[str]) -> int:
    """0 where all was measured or there is no such device, 1 where losses differ or a measurement failed."""
    given = parse(arguments)
    if given.device != "cpu" and not torch.cuda.is_available():
        print("gpu: torch finds no GPU here, so nothing was measured; --device cpu --tiny tries the script on a CPU")
        return 0
    quieten()
    console, begun = Console(highlight=False, width=None if sys.stdout.isatty() else 180), time.perf_counter()

    def show(text: str) -> None:
        console.print(f"{time.perf_counter() - begun:6.1f} s  {text}", soft_wrap=True, markup=False)

    plan = TINY if given.tiny else FULL
    scale = replace(plan.scale, rows=given.rows or plan.scale.rows, turns=given.turns or plan.scale.turns)
    with tempfile.TemporaryDirectory(prefix="stillhouse-gpu-") as folder:
        scene = GpuScene(Path(folder), scale, given.device)
        about = described(scene)
        for name, value in about.items():
            show(f"{name}: {value}")
        sound, checks = checked(scene, plan, show) if "checks" in given.only else (True, {})
        about |= checks
        found, complete = measured(scene, plan, given.only, show, begun + given.seconds)
    print_table(found, console)
    console.print(f"{time.perf_counter() - begun:.0f} s in all")
    if given.json:
        write_json(found, about, given.json)
    return 0 if sound and complete else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (cuda:0)")
    parser.add_argument("--tiny", action="store_true", help="small models and few rows: does it run?")
    parser.add_argument("--rows", type=int, metavar="N", help=f"rows of train ({FULL.scale.rows:,})")
    parser.add_argument("--turns", type=int, metavar="N", help=f"turns of each comparison ({FULL.scale.turns})")
    parser.add_argument("--seconds", type=float, default=200.0, help="start no comparison after so many seconds (200)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure these parts (all)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    return parser.parse_args(arguments)


def described(scene: GpuScene) -> dict[str, str]:
    """What the figures were measured on."""
    train, device = scene.train, scene.device
    card = "a CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return {
        "device": f"{device}, {card}; bfloat16 matrix products: {scene.peak / 1e12:.3g} TFLOP/s",
        "host": hardware(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "rows": f"{len(train):,} of {scene.task.name}, {train.costs.mean():.1f} tokens each",
    }


def checked(scene: GpuScene, plan: Plan, show: Callable[[str], None]) -> tuple[bool, dict[str, str]]:
    """Whether losses agree, and sentences about it: of the device and the CPU, and on a GPU of captured steps and the
    same steps kernel by kernel, for each architecture that is captured."""
    here, cpu = (
        scene.losses(device, scene.model(plan.checked, 0.0), CHECKED_STEPS) for device in (scene.device, "cpu")
    )
    worst = largest_difference(here, cpu)
    agree, checks = worst <= TOLERANCE, {}
    checks["losses"] = (
        f"{'equal to' if agree else 'DIFFERENT from'} the CPU's: over {len(cpu)} steps of {plan.checked} in float32 "
        f"without dropout they differ by at most {worst:.2g} of their value; allowed are {TOLERANCE:g}"
    )
    show(f"losses: {checks['losses']}")
    if scene.device == "cpu":
        return agree, checks
    for architecture, beside in (*((architecture, False) for architecture in CAPTURED), ("bert", True)):
        what = f"graphs of {architecture}" + (" with texts beside the rows" if beside else "")
        try:
            worst = scene.graph_difference(plan.checked, architecture, GRAPH_STEPS, beside)
        except Exception:
            show(traceback.format_exc())
            worst = float("inf")
        agree &= worst <= GRAPH_TOLERANCE
        checks[what] = (
            f"over {GRAPH_STEPS} steps the losses of captured steps differ by at most {worst:.2g} of their value from "
            f"those of the same steps kernel by kernel; allowed are {GRAPH_TOLERANCE:g}"
        )
        show(f"{what}: {checks[what]}")
    return agree, checks


def measured(
    scene: GpuScene, plan: Plan, only: Sequence[str], show: Callable[[str], None], ends: float
) -> tuple[list[Finding], bool]:
    """Every comparison of the plan that could start before ``ends``, and whether none failed."""
    comparisons: list[Callable[[], list[Finding]]] = []
    if "dump" in only:
        comparisons.append(partial(scene.dump, plan.teacher))
    wanted = {True: "beside" in only, False: "training" in only}
    comparisons += [partial(scene.training, epochs) for epochs in plan.trainings if wanted[epochs.beside]]
    if "students" in only:
        several: list[tuple[Way, int]] = [("kernels", 1)]
        several += [] if scene.device == "cpu" else [("graphs", 1), ("graphs", plan.students)]
        comparisons += [partial(listed, scene, plan, count, way) for way, count in several]
    if "compiled" in only:
        comparisons += [partial(scene.training, epochs) for epochs in plan.compiled]
    found: list[Finding] = []
    complete = True
    for number, compare in enumerate(comparisons):
        if time.perf_counter() > ends:
            show(f"--seconds is over: {len(comparisons) - number} comparisons were not made")
            break
        try:
            lines = compare()
        except Exception:
            show(traceback.format_exc())
            complete = False
            continue
        found += lines
        for line in lines:
            show(f"{line.name}: {line.value.median:.3f} {line.unit}; {line.note}")
    return found, complete


def listed(scene: GpuScene, plan: Plan, count: int, way: Way) -> list[Finding]:
    """``GpuScene.students`` as a comparison of one line."""
    return [scene.students(plan.student, count, way, plan.student_epochs)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
