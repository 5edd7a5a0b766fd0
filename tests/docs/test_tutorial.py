"""docs/tutorial.md is true: its files and commands, in their order, lead from a CSV file to a student that classifies.

The test trains on fewer rows and for fewer epochs than the page, and changes nothing else.
"""

import csv
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text("utf-8")

SMALLER = {
    "messages), 400)": "messages), 96)",
    "chosen[:240]": "chosen[:64]",
    "chosen[240:]": "chosen[64:]",
    "epochs: 3,": "epochs: 1,",
    "epochs: 4,": "epochs: 2,",
    "train.epochs=12": "train.epochs=3",
}


@dataclass(frozen=True)
class Block:
    """A code block of the page: its language, its text, and the name of the file that it is to be saved as ('' where
    it is to be run)."""

    language: str
    text: str
    file: str


def blocks() -> list[Block]:
    found = re.findall(r"(?:^`([^`\n]+)`:\n\n)?^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [Block(language, text, file) for file, language, text in found]


def smaller(text: str) -> str:
    for page, test in SMALLER.items():
        text = text.replace(page, test)
    return text


INSTALL, *REST = blocks()


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """As after ``. .venv/bin/activate``: the environment of this test first on the path; and no network."""
    tools = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Transcript:
    """The folder in which the page was followed, and what its commands and snippets printed."""

    folder: Path
    output: dict[str, str]

    def of(self, start: str) -> str:
        """The output of the one block whose text starts so."""
        (output,) = [output for text, output in self.output.items() if text.startswith(start)]
        return output


@pytest.fixture(scope="module")
def transcript(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Transcript:
    """The page followed from its data to its end."""
    folder, output = tmp_path_factory.mktemp("tutorial"), {}
    for block in REST:
        if block.file:
            (folder / block.file).write_text(smaller(block.text), "utf-8")
        elif block.language in ("sh", "python"):
            program = ["bash", "-e", "-c"] if block.language == "sh" else ["python", "-c"]
            done = subprocess.run(
                [*program, smaller(block.text)],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=280,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
            output[block.text] = done.stdout
    return Transcript(folder, output)


def test_the_smaller_tutorial_differs_where_the_page_says_so() -> None:
    for page in SMALLER:
        assert page in PAGE, page


def test_installing_is_one_target_of_the_makefile_and_the_environment_that_it_makes() -> None:
    assert INSTALL.text.splitlines() == ["make install", ". .venv/bin/activate"]
    assert re.search(r"^install:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert re.search(r"^VENV := \.venv$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_the_first_plan_builds_everything(transcript: Transcript) -> None:
    assert "0 to reuse, 8 to build" in transcript.of("stillhouse plan tickets.yaml\n")


def test_the_run_prints_a_row_for_each_model(transcript: Transcript) -> None:
    output = transcript.of("stillhouse run tickets.yaml --inline\n")
    assert re.findall(r"^ tickets +([\w-]+) ", output, re.MULTILINE) == ["teacher", "no-kd", "vanilla-kd"]


def test_more_epochs_and_a_further_method_reuse_the_teacher_and_its_store(transcript: Transcript) -> None:
    output = transcript.of("stillhouse plan tickets.yaml --set")
    for name in ("corpus@tickets", "finetune@tickets", "teach@tickets"):
        assert re.search(rf"{name} +│ reuse", output), name
    assert re.search(r"distil/no-kd/two/0@tickets +│ build .*train\.epochs: 2 -> 3", output)


def test_the_report_has_every_student(transcript: Transcript) -> None:
    with (transcript.folder / "students.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["teacher", "no-kd", "vanilla-kd", "annealing-kd"]
    assert {row["metric"] for row in rows} == {"accuracy"}


def test_the_student_classifies_with_plain_transformers(transcript: Transcript) -> None:
    output = transcript.of("import csv\n\nfrom transformers")
    assert re.fullmatch(r"\[\{'label': '(account|billing|delivery|technical)', 'score': [\d.]+\}\]\n", output)


def test_the_store_is_shown_with_its_layers(transcript: Transcript) -> None:
    output = transcript.of("stillhouse show teach@tickets")
    assert output.startswith("teach@tickets  teach version ")
    assert "between-row variance" in output
