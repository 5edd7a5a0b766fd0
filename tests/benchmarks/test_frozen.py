import ast
import importlib
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import FROZEN, NAMES

FOLDER = Path(benchmarks.__file__).parent
OURS = {path.name.removesuffix(".py") for path in FOLDER.parent.iterdir() if path.is_dir() or path.suffix == ".py"}
ALLOWED = {"numpy", "torch", "transformers", "textbrewer", *sys.stdlib_module_names}


def imported(path: Path) -> set[str]:
    """The first names of all modules that a file imports; a relative import has an empty one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0] if node.level == 0 else "")
    return found


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_script_imports_nothing_of_ours(name: str) -> None:
    found = imported(FOLDER / f"{name}.py")
    assert {"benchmarks", "stages", "cluster", "pipeline"} <= OURS
    assert not found & OURS
    assert found <= ALLOWED


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_script_has_at_most_eighty_lines(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text("utf-8").splitlines()) <= 80


def test_every_script_that_says_it_is_frozen_is_told_by_its_content() -> None:
    said = {path.stem for path in FOLDER.glob("*.py") if path.read_text("utf-8").startswith('"""Frozen.')}
    assert said == set(FROZEN)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_measure_of_its_own(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.measure.__module__ == module.__name__


def test_every_file_with_a_measure_is_among_the_benchmarks() -> None:
    found = {path.stem for path in FOLDER.glob("*.py") if "\ndef measure(scene: Scene)" in path.read_text("utf-8")}
    assert found == set(NAMES)
