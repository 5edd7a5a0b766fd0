"""What ``stillhouse search`` refuses before any work, in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, Project, write_plannable_assets, write_project

RATES = {"train.learning_rate": [1.0e-4, 2.0e-4]}


@pytest.fixture(scope="module")
def plannable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plannable_assets(tmp_path_factory.mktemp("plannable"))


def searchable(folder: Path, assets: Path, **search: object) -> Project:
    block = {"method": "vanilla-kd", "vary": RATES, **search}
    return write_project(folder, assets, search=block)


@pytest.mark.parametrize(
    ("search", "line"),
    [
        (
            {"vary": {"train.learnin_rate": [1]}},
            "search.vary.train.learnin_rate: unknown key; did you mean learning_ra",
        ),
        ({"vary": {"train.learning_rate": [1e-4, -1]}}, "search.vary.train.learning_rate: -1, must be above 0"),
        ({"vary": {"train.warmup": {"low": 0.1, "high": 1.5}}}, "search.vary.train.warmup: 1.5, must be below 1"),
        ({"vary": {"train.epochs": {"low": 1.0, "high": 4}}}, "search.vary.train.epochs: 1.0, must be a whole number"),
        (
            {"vary": {"structure": ["none", {"kind": "pick", "pairs": [[1, 9]]}]}},
            'search.vary: with structure {"kind": "pick", "pairs": [[1, 9]]}: task tiny, method vanilla-kd: structure',
        ),
        ({"vary": {"train.epochs": [2, 3]}}, "search.vary: with train.epochs 3: "),
    ],
)
def test_values_that_the_recipe_does_not_take_are_refused_in_one_line(
    search: dict[str, object], line: str, plannable: Path, tmp_path: Path
) -> None:
    project = searchable(tmp_path, plannable, **search)
    result = project("search", "--inline")
    assert (result.code, result.out) == (2, "")
    assert line in result.err and result.err.count("\n") == 1
    assert not (project.storage / "distil").exists() and not (project.storage / ".searches").exists()


def test_a_recipe_without_a_search_is_refused_with_an_example(plannable: Path, tmp_path: Path) -> None:
    result = write_project(tmp_path, plannable)("search")
    assert result.code == 2 and "search: missing, and needed: for example search: {vary: {train.learning" in result.err


def test_a_search_block_that_is_wrong_is_refused_by_plan_too(plannable: Path, tmp_path: Path) -> None:
    result = searchable(tmp_path, plannable, by="grid", trials=1)("plan")
    assert result.code == 2 and "search.trials: 1, but the grid has 2 combinations" in result.err


def test_a_ray_and_no_ray_at_once_are_refused(plannable: Path, tmp_path: Path) -> None:
    result = searchable(tmp_path, plannable)("search", "--inline", "--address", "auto")
    assert result.code == 2 and "--address: auto, but --inline runs in this process" in result.err


WITHOUT_OPTUNA = """
import sys
from importlib.abc import MetaPathFinder
from importlib import machinery

class Hidden(machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "optuna" else super().find_spec(name, path, target)

sys.meta_path[:] = [Hidden if finder is machinery.PathFinder else finder for finder in sys.meta_path]
from pipeline.cli.main import main
main()
"""


def test_without_optuna_tpe_is_refused_with_what_to_install_and_random_is_not(plannable: Path, tmp_path: Path) -> None:
    project = searchable(tmp_path, plannable)
    arguments = ["search", str(project.recipe), "--storage", str(project.storage), "--dry-run"]
    for by, code in (("tpe", 2), ("random", 0)):
        command = [sys.executable, "-c", WITHOUT_OPTUNA, *arguments, "--set", f"search.by={by}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("pip install -c constraints.txt '.[search]'" in done.stderr) == (by == "tpe")
