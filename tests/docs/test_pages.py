"""The pages name files that exist, the walk-throughs name functions that exist, and prose is wrapped."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DESIGN = (ROOT / "docs" / "design.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")

WIDTH = 120

FOLDERS = "pipeline|stages|cluster|tests|docs|recipes|benchmarks|kuberay"
PATH = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*-]*[\w/])")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def outside_code(text: str) -> list[str]:
    """The lines of a page without its fenced code blocks."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append(line)
    assert not inside, "a code block is not closed"
    return lines


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES])
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = {path for line in outside_code(page.read_text("utf-8")) for path in PATH.findall(line)}
    missing = [path for path in sorted(named) if not any(ROOT.glob(path.rstrip("/")))]
    assert missing == []


def test_the_rooms_on_the_page_are_those_of_the_repository() -> None:
    table = set(re.findall(r"^\| `((?:pipeline|stages)/\w+)/` \|", DESIGN, re.MULTILINE))
    found = {
        path.parent.relative_to(ROOT).as_posix()
        for package in ("pipeline", "stages")
        for path in (ROOT / package).glob("*/__init__.py")
    }
    assert table == found


# --- walk-throughs --------------------------------------------------------------------------------


def walks() -> dict[str, str]:
    """Title -> text of each walk-through of the design."""
    section = DESIGN.split("\n## Walk-through\n")[1].split("\n## ")[0]
    _, *parts = re.split(r"^### ", section, flags=re.MULTILINE)
    return {part.split("\n", 1)[0]: part for part in parts}


def steps(walk: str) -> list[str]:
    """The numbered items of a walk-through, each on one line."""
    items = re.split(r"^\d+\. ", walk, flags=re.MULTILINE)[1:]
    return [" ".join(item.split()) for item in items]


def defined(module: Path) -> set[str]:
    """Names of the functions, classes, methods and constants of a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_there_are_three_walk_throughs() -> None:
    assert len(walks()) == 3


@pytest.mark.parametrize("title", list(walks()))
def test_a_walk_through_names_at_most_twelve_files(title: str) -> None:
    files = set(re.findall(rf"(?:{FOLDERS})/[\w/]+\.py", walks()[title]))
    assert 5 <= len(files) <= 12


@pytest.mark.parametrize(
    "step", [step for walk in walks().values() for step in steps(walk)], ids=lambda step: step[:60]
)
def test_what_a_walk_through_names_in_a_file_is_defined_there(step: str) -> None:
    head = step.split(": ")[0]
    modules = [ROOT / path for path in re.findall(r"`([\w/]+\.py)`", head)]
    assert modules, step
    names = {name.rsplit(".", 1)[-1] for name in re.findall(r"`([A-Za-z_.]+)`", head)}
    known = set().union(*map(defined, modules))
    assert names <= known, f"{sorted(names - known)} in {head}"


# --- the glossary ---------------------------------------------------------------------------------


def words() -> list[str]:
    return re.findall(r"^\| ([a-z][\w -]*) \|", GLOSSARY, re.MULTILINE)[1:]


def test_the_glossary_is_in_alphabetical_order() -> None:
    assert words() == sorted(words())
    assert len(set(words())) == len(words()) > 40


def test_every_word_of_the_glossary_points_to_a_page_or_a_file() -> None:
    for line in GLOSSARY.splitlines():
        if line.startswith("| ") and not line.startswith(("| word", "| ---")):
            pointer = line.rstrip(" |").rsplit(" | ", 1)[1]
            assert re.search(r"\]\([\w.#-]+\)|`[\w/]+\.py`", pointer), line


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES])
def test_every_link_to_a_section_of_a_page_leads_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(((?:docs/)?[\w.-]*\.md)#([\w.-]+)\)", page.read_text("utf-8")):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target).read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{target}#{anchor}"


# --- prose ----------------------------------------------------------------------------------------


def is_prose(line: str) -> bool:
    """Not part of a table, not code by its indent, and not a link alone on its line."""
    text = re.sub(r"^([-*]|\d+\.) ", "", line.strip())
    alone = re.fullmatch(r"(\[[^\]]*\]\([^)]*\)|<?https?://\S+>?)[.,;]?", text)
    return not (text.startswith("|") or line.startswith("    ") or alone)


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES])
def test_no_line_of_prose_is_wider_than_120_columns(page: Path) -> None:
    wide = [line for line in outside_code(page.read_text("utf-8")) if is_prose(line) and len(line) > WIDTH]
    assert wide == []


# --- snippets -------------------------------------------------------------------------------------


def test_the_recipe_of_the_page_on_extending_parses() -> None:
    import yaml

    from pipeline.recipe import parse

    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.DOTALL)
    assert [task.task.name for task in parse(yaml.safe_load(block)).tasks] == ["rotten_tomatoes"]
