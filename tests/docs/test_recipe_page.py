"""docs/recipe.md and the schema for editors say what the code does."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from pydantic import BaseModel

from docs.generate import recipe as recipe_docs
from pipeline.methods import METHODS
from pipeline.recipe import parse
from pipeline.recipe.schema import candidates, learners
from pipeline.recipe.schema import file as grammar
from pipeline.recipe.schema.scalars import Block, ReadAs
from pipeline.recipe.yaml import Tree, merged, parse_yaml, read
from stages.specs.bank import BankSpec
from stages.specs.candidates import Masked, NeighboursSpec, RerankSpec, Translated, WordByWord, Words
from stages.specs.corpus import CorpusSpec, Generated
from stages.specs.method import Method
from stages.specs.retrieval import EmbedSpec, IndexSpec, ModelEncoder
from stages.specs.student import Train
from stages.specs.tasks import BUILT_IN
from stages.specs.teacher import TeachSpec

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipe.md"
SCHEMA = json.loads(recipe_docs.schema())

SMALLEST: dict[str, Tree] = {
    "name": "small",
    "task": ["sst2", "mrpc", "mnli"],
    "teacher": {"model": "big"},
    "student": {"model": "little"},
    "method": "vanilla-kd",
}

AGAIN = "run `python -m docs.generate.recipe` and commit docs/"


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text("utf-8") == recipe_docs.page(), AGAIN


def test_the_committed_schema_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "recipe.schema.json").read_text("utf-8") == recipe_docs.schema(), AGAIN


def blocks_of(model: type[BaseModel], seen: set[type[Block]]) -> set[type[Block]]:
    """All blocks that a block may hold, at any depth."""
    for field in model.model_fields.values():
        waiting: list[Any] = [field.annotation, *field.metadata]
        while waiting:
            one = waiting.pop()
            waiting.extend((one.form,) if isinstance(one, ReadAs) else get_args(one))
            if isinstance(one, type) and not get_args(one) and issubclass(one, Block) and one not in seen:
                seen.add(one)
                blocks_of(one, seen)
    return seen


def test_the_page_has_a_section_for_every_block() -> None:
    assert blocks_of(grammar.RecipeFile, {grammar.RecipeFile}) == set(recipe_docs.SECTIONS.values())


def test_the_page_names_every_key_method_kind_and_task() -> None:
    page = recipe_docs.page()
    keys = {name for block in recipe_docs.SECTIONS.values() for name in block.model_fields}
    names = {*keys, *BUILT_IN, *Method.model_fields}
    assert {name for name in names if f"| `{name}` |" not in page} == set()
    assert {own.name for own in METHODS if f"| [`{own.name}`](methods.md#{own.name}) |" not in page} == set()


EXAMPLES = re.findall(r"```yaml\n(.*?)```", recipe_docs.page(), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_on_the_page_is_a_recipe_or_part_of_one(text: str) -> None:
    example = parse_yaml(text, "example")
    networks = {key for key in ("teacher", "student") if "network" in str(example.get(key))}  # in the place of a model
    tree = merged({key: value for key, value in SMALLEST.items() if key not in networks}, example)
    assert parse(tree).name
    jsonschema.validate(tree, SCHEMA)


def keys_with_examples() -> list[tuple[type[Block], str]]:
    return [(block, name) for block in recipe_docs.SECTIONS.values() for name in block.model_fields]


@pytest.mark.parametrize(("block", "name"), keys_with_examples(), ids=lambda one: getattr(one, "__name__", one))
def test_the_example_of_a_key_is_one_that_it_takes(block: type[Block], name: str) -> None:
    (example,) = block.model_fields[name].examples or []
    needed = {
        other: (field.examples or [None])[0] for other, field in block.model_fields.items() if field.is_required()
    }
    assert name in block.model_validate({**needed, name: example}).model_fields_set


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_editors_accept_every_recipe_of_the_project(path: Path) -> None:
    jsonschema.validate(read(path), SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": {"epoch": 3}},
        {"train": {"epochs": 0}},
        {"method": "vanila-kd"},
        {"method": [{"use": "vanilla-kd", "training": {"max_temperatur": 3}}]},
        {"student": []},
        {"seeds": ["a"]},
        {"overrides": {"mrpc": {"train": {"epochs": 0}}}},
        {"overrides": {"mrpc": {"storage": "x"}}},
        {"resources": {"distill": {}}},
        {"limits": {"store_bytes": "fifty"}},
    ],
)
def test_editors_refuse_what_the_reader_refuses(wrong: dict[str, Tree]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SMALLEST, **wrong}, SCHEMA)


def limits(model: type[BaseModel]) -> dict[str, Any]:
    """The type, limits and default of each key, without words."""
    words = {"description", "examples", "title"}
    whole = model.model_json_schema()
    properties = (whole if "properties" in whole else whole["anyOf"][1])["properties"]
    return {name: {key: of[key] for key in of if key not in words} for name, of in properties.items()}


def test_train_takes_what_the_spec_takes_with_the_same_defaults() -> None:
    spec = limits(Train)
    del spec["seed"], spec["keep"]
    del spec["select_metric"]  # a recipe gives it as task.select
    found = limits(learners.OptimisationBlock)
    for block in ("optimizer", "schedule"):  # written as blocks of the recipe, with a name for short
        assert found.pop(block)["default"] == spec.pop(block)["default"]
    assert found == spec
    assert learners.SeededBlock().model_dump() == Train().model_dump(exclude={"select_metric"})


CHOICES = [
    (grammar.StoreSettings, TeachSpec, {"pooling", "precision", "compute"}),
    (candidates.IndexBlock, IndexSpec, {"kind", "recall", "lists"}),
    (candidates.Bank, ModelEncoder, {"pooling", "max_length"}),
    (candidates.Bank, BankSpec, {"min_words", "max_words", "near_duplicates"}),
    (candidates.CandidateMaker, NeighboursSpec, {"min_distance", "max_distance"}),
    (candidates.CandidateMaker, RerankSpec, {"rerank", "balance"}),
    (grammar.Data, CorpusSpec, {"train_rows", "eval_rows", "holdout"}),
    (learners.TrainBlock, CorpusSpec, {"max_length"}),
]


@pytest.mark.parametrize(("block", "spec", "names"), CHOICES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_key_that_sets_a_field_of_a_spec_takes_what_the_field_takes(
    block: type[Block], spec: type[BaseModel], names: set[str]
) -> None:
    ours, theirs = limits(block), limits(spec)
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}


def test_a_block_without_keys_is_the_spec_with_its_defaults() -> None:
    assert grammar.GeneratedBlock().as_spec(Generated) == Generated()
    assert candidates.IndexBlock().spec() == IndexSpec()
    bank = candidates.Bank(files=("a",))
    assert (bank.cleaning, bank.embedding) == (BankSpec(), EmbedSpec())
    made = [candidates.CandidateMaker(by=by).how for by in ("words", "masked", "tinybert", "translated")]
    assert made == [Words(), Masked(), WordByWord(), Translated()]


def test_a_method_in_a_recipe_has_the_axes_of_the_spec() -> None:
    assert set(learners.AxesBlock.model_fields) - {"use"} == set(Method.model_fields)
