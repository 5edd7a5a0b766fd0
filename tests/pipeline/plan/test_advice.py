from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets

from pipeline.plan.advice import bfloat16_instructions, precision_advice
from pipeline.plan.planner import plan
from pipeline.storage.directory import Directory


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16 amx_bf16", "amx_bf16"), ("fpu avx512_bf16", "avx512_bf16"), ("fpu avx2 avx512f", "")],
)
def test_the_faster_of_a_processors_instructions_for_bfloat16_is_named(
    flags: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: A\nflags\t\t: {flags}\n\n" * 2, "utf-8")
    assert bfloat16_instructions(tmp_path / "cpuinfo") == expected


def test_a_machine_that_lists_no_flags_has_no_such_instructions(tmp_path: Path) -> None:
    assert bfloat16_instructions(tmp_path / "missing") == ""
    (tmp_path / "cpuinfo").write_text("Features : fp asimd\n", "utf-8")
    assert bfloat16_instructions(tmp_path / "cpuinfo") == ""


@pytest.mark.parametrize(
    ("precision", "instructions", "advised"), [("float32", "a", True), ("bfloat16", "a", False), ("float32", "", False)]
)
def test_bfloat16_is_recommended_for_trainings_in_float32_where_the_processor_has_it(
    precision: str, instructions: str, advised: bool, tmp_path: Path
) -> None:
    assets, precisely = write_plannable_assets(tmp_path / "assets"), {"precision": precision}
    teacher = {"model": str(assets / "model"), "finetune": precisely}
    recipe, graph = graph_of(assets, tmp_path / "runs", teacher=teacher, train=precisely)
    found = plan(graph, Directory(tmp_path / "runs"), recipe.name)
    line = precision_advice(found, instructions)
    trainings = sum(step.node.spec.stage == "distil" for step in found.builds)
    assert line.startswith(f"train.precision: float32, in {trainings} trainings; ") if advised else line == ""
