"""What a plan recommends, and never chooses: settings with which its steps take less time on this machine."""

from pathlib import Path

from pipeline.plan.planner import Plan
from stages.specs.student import DistilSpec

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
"""The flags of a processor that multiplies matrices of bfloat16, the faster first."""


def bfloat16_instructions(cpuinfo: Path = CPUINFO) -> str:
    """The flag of this machine's processor for products of bfloat16; '' if it has none, or if that is not known."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return next((flag for flag in BFLOAT16_INSTRUCTIONS if flag in flags), "")


def precision_advice(plan: Plan, instructions: str) -> str:
    """A line that recommends bfloat16 for trainings which are to be built in float32, on a processor with these
    ``instructions`` for it; '' where there are none. It is not chosen in silence, because it changes the results."""
    specs = [step.node.spec for step in plan.builds]
    trainings = sum(isinstance(spec, DistilSpec) and spec.train.precision == "float32" for spec in specs)
    if not trainings or not instructions:
        return ""
    return (
        f"train.precision: float32, in {trainings:,} trainings; with bfloat16 an epoch takes about half the time on "
        f"this processor ({instructions}; docs/performance.md)"
    )
