"""The README is true: its commands run as they stand, its snippet loads a student, its links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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
    recipe["train"]["epochs"] = 2
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
    models = sorted(clone.glob("runs/distil/*/*/model"))
    assert models, "the commands have made students"
    assert "runs/distil/<key>/0001/model" in snippet
    code = snippet.replace("runs/distil/<key>/0001/model", str(models[0]))
    check = "\nanswer = classify('a lovely film')[0]\nassert answer['label'] in ('negative', 'positive'), answer\n"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, timeout=120)
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
    for target in sorted(set(re.findall(r"make (\w+)", README))):
        if target in ("demo", "test", "check", "bench"):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
