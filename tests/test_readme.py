"""The README is true: its commands run as they stand, its snippet loads a student, its links lead somewhere."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tiny import write_tiny_model

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[str]:
    """Lines of the README's shell blocks that call the program on a recipe of the project, or on none."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    found = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in found if line.startswith(".venv/bin/stillhouse") and "--address" not in line]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone after installation, whose quickstart is the project's own, only smaller."""
    folder = tmp_path_factory.mktemp("clone")
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text("utf-8"))
    recipe["teacher"] = {"model": str(write_tiny_model(folder / "tiny", layers=6)), "finetune": {"epochs": 1}}
    recipe["data"] = {"source": "generated", "generated": {"train": 80, "validation": 40, "test": 40}}
    recipe["bank"] = {"generated": {"rows": 200}}
    recipe["train"]["epochs"] = 4
    (folder / "recipes").mkdir()
    (folder / "recipes" / "quickstart.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return folder


@pytest.fixture(scope="module")
def transcript(clone: Path) -> list[subprocess.CompletedProcess[str]]:
    """What each of the README's commands came to, run in their order."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return [
        subprocess.run(command.split(), cwd=clone, env=environment, capture_output=True, text=True, timeout=240)
        for command in commands()
    ]


def test_the_readmes_commands_succeed_in_their_order(transcript: list[subprocess.CompletedProcess[str]]) -> None:
    assert len(transcript) >= 6
    for done in transcript:
        assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        assert done.stderr == "", done.args


def test_the_readmes_snippet_classifies_with_a_student(
    clone: Path, transcript: list[subprocess.CompletedProcess[str]]
) -> None:
    snippet = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    check = "\nanswer = classify('a lovely film')[0]\nassert answer['label'] in ('negative', 'positive'), answer\n"
    done = subprocess.run(
        [sys.executable, "-c", snippet + check], cwd=clone, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_recipe_parses() -> None:
    from pipeline.recipe import parse

    block = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
    recipe = parse(yaml.safe_load(block), (), None)
    assert [task.task.name for task in recipe.tasks] == ["sst2", "cola"]
    assert [student.label for student in recipe.tasks[0].students] == ["six", "three"]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_the_makefile_has_every_target_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in sorted(set(re.findall(r"(?:^|`)make ([\w-]+)", README, re.MULTILINE))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


# --- the installation -----------------------------------------------------------------------------


def installed_with(*requirements: str) -> set[str]:
    """The names of the distributions that these requirements bring, and those that they need in turn."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name in found and one.extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | one.extras
        try:
            needed = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        for other in needed:
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in ("", *found[name])):
                waiting.append(other)
    return set(found)


def imported() -> set[str]:
    """The names of the modules outside the standard library that the packages import, anywhere in them."""
    own = ("stillhouse", "pipeline", "stages", "cluster")
    trees = [ast.parse(path.read_text("utf-8")) for package in own for path in (ROOT / package).rglob("*.py")]
    names: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.partition(".")[0] for name in names} - {*own, *sys.stdlib_module_names}


def test_the_packages_import_nothing_that_only_the_development_tools_bring() -> None:
    provided = installed_with("stillhouse[cpu,gpu,minilm,mlflow,wandb,onnx,search,s3,gs]")
    assert {"torch", "pydantic-core"} <= provided and not {"pytest", "moto"} & provided
    modules = imported()
    assert {"torch", "pydantic", "yaml", "ray"} <= modules
    origins = {name: origin for name, origin in packages_distributions().items() if name in modules}
    assert {name for name, origin in origins.items() if not provided & set(map(canonicalize_name, origin))} == set()


def recipe_of(target: str) -> str:
    """What ``make`` would carry out for a target in a folder where nothing is installed."""
    # Within another make, this one would name its folder; and it must not take that one's options.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "-n", "-B", target]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["install", "demo"])
def test_users_install_no_development_tools(target: str) -> None:
    assert "'.[cpu,minilm]'" in recipe_of(target)
    assert "dev" not in recipe_of(target)


@pytest.mark.parametrize("target", ["dev", "check", "test", "test-slow"])
def test_targets_for_contributors_install_the_development_tools(target: str) -> None:
    assert "'.[cpu,minilm,splade-tiny,onnx,search,dev]'" in recipe_of(target)


def test_an_installation_says_what_it_does_and_is_not_silent() -> None:
    recipe = recipe_of("install")
    assert recipe.startswith('echo "Installing Stillhouse ')
    assert "minutes" in recipe
    assert "--quiet" not in recipe and " -q" not in recipe
