"""docs/methods.md, the list of methods, and the examples in both say what the code does."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import graph_of, write_plannable_assets

from docs.generate import methods as methods_docs
from pipeline.cli.methods import full_description, listing
from pipeline.methods import (
    EMBEDDING_METHODS,
    METHODS,
    SECTIONS,
    WHERE_TO_BEGIN,
    EmbeddingMethod,
    NamedMethod,
    Suggestion,
    find,
)
from pipeline.recipe import parse
from pipeline.recipe.as_yaml import axes_yaml
from pipeline.recipe.yaml import Tree, merged, parse_yaml, read
from stages.specs.method import Method

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text("utf-8")
NAMES = [named.name for named in METHODS]

SMALLEST: dict[str, Tree] = {
    "name": "small",
    "task": "sst2",
    "teacher": {"model": "big", "finetune": {"epochs": 4, "keep": "epochs"}},
    "student": {"model": "little"},
}


def test_the_committed_page_is_the_generated_one() -> None:
    assert methods_docs.page() == PAGE, "run `python -m docs.generate.methods` and commit docs/"


def test_every_link_of_the_page_leads_somewhere() -> None:
    anchors = {title.strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (ROOT / "docs" / target.partition("#")[0]).resolve().is_file(), target


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_the_page_has_all_that_is_known_of_a_method(named: NamedMethod) -> None:
    texts = (named.formula, named.scale, named.defaults, named.differs, named.example)
    page = " ".join(PAGE.split())
    for text in (*texts, named.needs, named.teacher_summary):
        assert " ".join(text.split()) in page


def test_prose_wraps_at_120_columns() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    assert [line for line in prose.split("\n") if len(line) > 120 and not line.startswith("|")] == []


def uses(tree: Tree) -> set[str]:
    """The names of the methods that a tree of a recipe uses."""
    if isinstance(tree, dict):
        own = {tree["use"]} if "use" in tree else set()
        named = {tree["method"]} if isinstance(tree.get("method"), str) else set()
        return {str(name) for name in own | named} | {name for child in tree.values() for name in uses(child)}
    if isinstance(tree, list):
        return {one for one in tree if isinstance(one, str) and one in NAMES} | {n for c in tree for n in uses(c)}
    return set()


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_the_example_of_a_method_is_part_of_a_recipe_and_uses_it(named: NamedMethod) -> None:
    tree = merged(SMALLEST, parse_yaml(named.example, "example"))
    assert named.name in uses(tree)
    assert parse(tree).tasks[0].methods


SUGGESTIONS = [suggestion for case in WHERE_TO_BEGIN.values() for suggestion in case]


@pytest.mark.parametrize("task", ["sst2", "stsb"])
@pytest.mark.parametrize("suggestion", SUGGESTIONS, ids=lambda suggestion: suggestion.name)
def test_each_method_to_begin_with_has_an_example_that_is_part_of_a_recipe_of_single_texts_and_of_pairs(
    suggestion: Suggestion, task: str
) -> None:
    tree = merged({**SMALLEST, "task": task}, parse_yaml(suggestion.example, "example"))
    assert {suggestion.name, "no-kd"} <= uses(tree)
    assert suggestion.name in [use.label for use in parse(tree).tasks[0].methods]


def test_no_warning_is_added_to_a_plan_by_the_example_of_a_method_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assets = write_plannable_assets(tmp_path / "assets")
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(5_000)]}), "sentences.parquet")
    before = set(graph_of(assets, tmp_path / "runs", method="no-kd")[1].warnings)
    for suggestion in SUGGESTIONS:
        example = parse_yaml(suggestion.example, "example")
        added = set(graph_of(assets, tmp_path / "runs", **example)[1].warnings) - before
        assert not added, (suggestion.name, added)


def test_page_and_list_begin_with_the_methods_to_begin_with() -> None:
    text, names = listing(100), [suggestion.name for suggestion in SUGGESTIONS]
    assert names == ["transfer", "minimax-knn", "vanilla-kd", "annealing-kd"]
    for whole, first_section in ((text, "LABELS ALONE"), (PAGE, "## Labels alone")):
        beginning, _, _ = whole.partition(first_section)
        places = [beginning.index(suggestion.example.split("\n")[-1]) for suggestion in SUGGESTIONS]
        assert places == sorted(places)
        for suggestion in SUGGESTIONS:
            assert " ".join(suggestion.purpose.split()) in " ".join(beginning.split())
    assert text.startswith("WHERE TO BEGIN\n")


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_the_recipe_named_for_a_method_uses_it(named: NamedMethod) -> None:
    assert named.name in uses(read(ROOT / "recipes" / named.recipe))


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_the_defaults_as_written_are_the_method(named: NamedMethod) -> None:
    axes = parse_yaml("\n".join(axes_yaml(named.method)), "defaults")
    assert Method.model_validate(axes) == named.method


# --- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_list_keeps_to_its_width_but_for_examples(width: int) -> None:
    examples = {line for named in (*METHODS, *EMBEDDING_METHODS) for line in named.example.split("\n")}
    wide = [line for line in listing(width).split("\n") if len(line) > width]
    assert [line for line in wide if not any(example in line for example in examples)] == []


def test_the_list_has_of_each_method_paper_needs_teachers_defaults_and_an_example() -> None:
    blocks = re.split(r"\n\n", listing(100))
    for named in METHODS:
        (block,) = [block for block in blocks if block.startswith(f"{named.name}: ")]
        heads = re.findall(r"^  (\S(?:.*?\S)?)(?:  +| (?=one|two|the|an|a |none))", block, re.MULTILINE)
        assert [head.split("  ")[0] for head in heads][:3] == ["paper", "needs", "taught by"]
        assert "\n  defaults " in block and "\n  example " in block and f"(recipes/{named.recipe})" in block


def test_the_list_has_every_section() -> None:
    assert all(title.upper() in listing(100).split("\n") for title in SECTIONS)


def test_one_method_in_full_has_its_loss_and_what_differs() -> None:
    text = full_description(find("alp"), 100)
    assert "c[j] = sum_k alpha[k] h_T[k]" in text
    assert "\n  differs " in text
    assert max(len(line) for line in text.split("\n")) <= 100


# --- methods of sentence embeddings ---------------------------------------------------------------


@pytest.mark.parametrize("named", EMBEDDING_METHODS, ids=lambda named: named.name)
def test_methods_of_embeddings_are_on_the_page_and_in_the_list_with_an_example_that_is_read(
    named: EmbeddingMethod,
) -> None:
    page = " ".join(PAGE.split())
    for text in (named.formula, named.scale, named.differs, named.example):
        assert " ".join(text.split()) in page
    assert f"{named.name}: {named.title}" in listing(100).split("\n")
    assert named.formula in full_description(named, 100)
    given = {**SMALLEST, "teacher": {"model": "big"}, "bank": {"files": ["texts.txt"]}}
    (task,) = parse(merged(given, parse_yaml(named.example, "example"))).tasks
    assert task.kind == "embedding" and task.methods[0].embedding is not None
    assert task.methods[0].embedding.loss == named.embedding.loss
