"""Imports point one way (pipeline -> stages -> cluster.resources), form no circles, and a plan loads nothing heavy."""

import ast
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from project import ROOT, Project

HEAVY = ("torch", "transformers", "datasets", "sklearn", "scipy", "faiss", "ray", "pandas", "matplotlib", "safetensors")


def imported(source: Path) -> Iterator[str]:
    """The module names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: imports name their package"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imports_of(package: str) -> set[tuple[str, str]]:
    """(file, module) for each import in a package."""
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    return {(str(source.relative_to(ROOT)), name) for source in sources for name in imported(source)}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_stages_import_only_cluster_resources() -> None:
    assert {(file, name) for file, name in imports_of("stages") if within(name, "pipeline")} == set()
    wrong = {(file, name) for file, name in imports_of("stages") if within(name, "cluster")}
    assert {name for _, name in wrong if not within(name, "cluster.resources")} == set()


def test_the_cluster_imports_neither_pipeline_nor_stages() -> None:
    assert {(file, name) for file, name in imports_of("cluster") if within(name, "pipeline", "stages")} == set()


@pytest.mark.parametrize("package", ["pipeline", "stages"])
def test_only_the_cluster_imports_ray(package: str) -> None:
    assert {(file, name) for file, name in imports_of(package) if within(name, "ray")} == set()


@pytest.mark.parametrize("package", ["pipeline", "cluster"])
def test_only_stages_import_libraries_for_models_and_data(package: str) -> None:
    libraries = ("torch", "transformers", "datasets", "sklearn", "faiss", "safetensors", "scipy")
    found = {(file, name) for file, name in imports_of(package) if within(name, *libraries)}
    assert found == set()


def test_cluster_resources_imports_only_the_standard_library() -> None:
    files = ("resources", "amount", "share")
    found = {name for file in files for name in imported(ROOT / "cluster" / f"{file}.py")}
    found = {name for name in found if not any(within(name, f"cluster.{file}") for file in files)}
    assert {name.split(".")[0] for name in found} <= sys.stdlib_module_names


def test_the_package_for_notebooks_imports_pipeline_and_stages_and_nothing_imports_it() -> None:
    own = {name.split(".")[0] for _, name in imports_of("stillhouse")} - sys.stdlib_module_names
    assert own & {"cluster", "ray", "torch"} == set()
    for package in ("pipeline", "stages", "cluster"):
        assert {(file, name) for file, name in imports_of(package) if within(name, "stillhouse")} == set()


# --- no circles, small folders --------------------------------------------------------------------


def modules(package: str) -> dict[str, Path]:
    """Module name -> file, for each module of a package. A folder's ``__init__.py`` has the folder's name."""
    found = {}
    for source in (ROOT / package).rglob("*.py"):
        name = ".".join(source.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = source
    return found


def dependencies(package: str) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports, anywhere in it."""
    known = modules(package)
    return {name: {other for other in imported(source) if other in known} - {name} for name, source in known.items()}


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The members of one circle; [] where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", ["pipeline", "stages", "cluster"])
def test_modules_form_no_circle(package: str) -> None:
    assert circle(dependencies(package)) == []


def folders(package: str) -> list[str]:
    return sorted({str(source.parent.relative_to(ROOT)) for source in modules(package).values()})


@pytest.mark.parametrize("folder", [*folders("pipeline"), *folders("stages"), *folders("cluster")])
def test_the_folders_and_modules_of_a_folder_form_no_circle(folder: str) -> None:
    """Each folder counts as one module, with the imports of all modules in it."""
    start = folder.replace("/", ".") + "."
    edges: dict[str, set[str]] = defaultdict(set)
    for name, others in dependencies(folder.split("/")[0]).items():
        if name.startswith(start):
            own = name.removeprefix(start).split(".")[0]
            edges[own] |= {other.removeprefix(start).split(".")[0] for other in others if other.startswith(start)}
            edges[own].discard(own)
    assert circle(edges) == []


@pytest.mark.parametrize("folder", [*folders("pipeline"), *folders("stages")])
def test_a_folder_has_at_most_16_modules_and_a_module_at_most_400_lines(folder: str) -> None:
    sources = [source for source in (ROOT / folder).glob("*.py") if source.name != "__init__.py"]
    assert len(sources) <= 16
    for source in sources:
        assert len(source.read_text("utf-8").splitlines()) <= 400, source


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for package in ("pipeline", "stages", "cluster"):
        for name, source in modules(package).items():
            for node in ast.walk(ast.parse(source.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_spec_has_its_stage_in_the_table() -> None:
    code = (
        "import importlib, json, sys\n"
        "from stages.table import STAGES\n"
        "from stages.specs.base import Spec\n"
        "print(json.dumps([sorted(k.__name__ for k in STAGES), sorted(k.__name__ for k in Spec.__subclasses__()),"
        " sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    with_stage, specs, loaded = json.loads(done.stdout)
    assert with_stage == specs
    assert {module for module in loaded if within(module, *HEAVY)} == set()


# --- what a plan loads and starts -----------------------------------------------------------------

DRIVER = """
import json, sys

PROCESS_EVENTS = ("subprocess.", "os.fork", "os.posix_spawn", "os.spawn", "os.exec", "os.system", "socket.")

def watch(event, arguments):
    if event.startswith(PROCESS_EVENTS):
        print(f"a process or socket: {event}", file=sys.stderr)

sys.addaudithook(watch)
from pipeline.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


REPORT = ("report", "--format", "json")


@pytest.mark.parametrize(
    "command", [("plan",), ("run",), ("run", "--inline"), REPORT, (*REPORT, "--baseline", "no-kd")]
)
def test_if_nothing_is_to_be_built_no_heavy_library_is_loaded_and_no_process_is_started(
    first_run: tuple[Project, object], command: tuple[str, ...]
) -> None:
    project, (name, *options) = first_run[0], command
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, name, str(project.recipe), "--storage", str(project.storage), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    loaded = json.loads(line)
    assert {module for module in loaded if within(module, *HEAVY)} == set()
    assert "cluster.session" not in loaded
    if name == "run":
        assert "nothing to do, all 12 artifacts exist" in done.stdout
