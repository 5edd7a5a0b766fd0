"""Every path of a recipe is known where a recipe is read, and may be told from a name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from pipeline.cli.submit import with_absolute_paths
from pipeline.errors import RequestError
from pipeline.recipe import STAGES
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.paths import ANY, EACH, PLACES, is_relative_path, with_paths
from pipeline.recipe.schema.file import RecipeFile
from pipeline.recipe.schema.scalars import ReadAs
from pipeline.recipe.yaml import Tree, parse_yaml, to_yaml

NO_PATHS = {
    *("name", "task.each.name", "task.each.text", "task.each.label", "task.each.labels", "teacher.labels"),
    *("student.each.cut.of", "models.any.cut.of"),
    *("student.each.label", "student.each.start", "method.each.label", "method.each.use", "method.each.taught_by"),
    *(
        "method.each.candidates",
        "models.any.members",
        "models.any.method.use",
        "models.any.taught_by",
        "models.any.start",
    ),
    *("models.any.candidates", "bank.hub.repository", "bank.hub.config", "bank.hub.split", "bank.text"),
    *("task.each.hub.repository", "task.each.hub.config", "task.each.hub.revision", "task.each.hub.splits"),
    *("task.each.config", "search.student", "search.task", "search.vary", "search.method"),
    *("bank.sentences", "tracking.project", "task.each.image"),
    *("teacher.network.name", "student.each.network.name", "models.any.network.name"),
    *(f"resources.{stage}.custom" for stage in STAGES),
}
"""Keys that hold a text and are no path. A new key of text belongs here, or to ``PLACES``."""

RELATIVE: Tree = {
    "storage": "runs",
    "data": {"source": "data"},
    "task": [{"name": "mine", "files": {"train": "a.csv"}}, "sst2"],
    "teacher": {"model": "./teacher"},
    "student": {"model": "models/by/me", "label": "me"},
    "models": {
        "assistant": {"config": {"model": "here"}},
        "small": {"model": "org/name", "pretrain": {"texts": "task", "taught_by": "./large"}},
    },
    "bank": {"files": "bank.txt", "encoder": "tfidf"},
    "candidates": {"words": {"by": "words", "synonyms": "words.tsv", "model": "bert-base-uncased"}},
    "tracking": {"kind": "mlflow", "uri": "sqlite:///mlflow.db"},
    "overrides": {"mine": {"data": {"source": "other"}, "student": [{"model": "org/name"}]}},
}


def test_every_key_that_holds_a_text_is_a_path_or_known_to_be_none() -> None:
    known = {".".join(place) for place in PLACES} | {".".join(place).removesuffix(".any") for place in PLACES}
    known |= {".".join(place).removesuffix(f".{EACH}") for place in PLACES}
    assert set(texts(RecipeFile)) - known == NO_PATHS


def texts(block: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[str]:
    """The keys of a block, and of the blocks in it, that hold texts."""
    for name, field in block.model_fields.items():
        if at == () and name == "overrides":
            continue  # the same keys
        place, annotation = (*at, name), as_written(field.annotation, *field.metadata)
        if "Axis" in f"{annotation}{field.metadata}":
            continue  # the axes of a method, which read no file
        inner = blocks(annotation)
        many = "tuple" in str(annotation) and inner
        named = "dict" in str(annotation) and inner
        here = (*place, EACH) if many else (*place, ANY) if named else place
        for found in inner:
            yield from texts(found, here)
        if not inner and holds_text(annotation):
            yield ".".join(place)


def as_written(annotation: Any, *metadata: Any) -> Any:
    """The annotation, or that of the form in which a file has it."""
    return next((one.form for one in metadata if isinstance(one, ReadAs)), annotation)


def parts(annotation: Any) -> tuple[Any, ...]:
    """What an annotation is made of. The names of a mapping are texts."""
    if get_origin(annotation) is Annotated:
        return (as_written(*get_args(annotation)),)
    return (str, *get_args(annotation)) if get_origin(annotation) is FrozenMapping else get_args(annotation)


def blocks(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in parts(annotation) for found in blocks(part)]


def holds_text(annotation: Any) -> bool:
    if annotation is str:
        return True
    if "Literal" in str(type(annotation)) or str(annotation).startswith("typing.Literal"):
        return False
    return any(holds_text(part) for part in parts(annotation))


def test_relative_paths_start_where_the_recipe_is_submitted(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    tree, resolved = with_absolute_paths(RELATIVE, tmp_path, nodes=1)
    assert resolved == {
        "storage": "runs",
        "data.source": "data",
        "task.0.files.train": "a.csv",
        "teacher.model": "./teacher",
        "student.model": "models/by/me",
        "models.assistant.config.model": "here",
        "models.small.pretrain.taught_by": "./large",
        "bank.files": "bank.txt",
        "candidates.words.synonyms": "words.tsv",
        "tracking.uri": "sqlite:///mlflow.db",
        "overrides.mine.data.source": "other",
    }
    assert isinstance(tree, dict)
    assert tree["storage"] == str(tmp_path / "runs")
    assert tree["tracking"] == {"kind": "mlflow", "uri": f"sqlite:///{tmp_path}/mlflow.db"}
    assert tree["overrides"] == {
        "mine": {"data": {"source": str(tmp_path / "other")}, "student": [{"model": "org/name"}]}
    }


def test_nothing_else_of_a_recipe_changes() -> None:
    tree: Tree = {"storage": "s3://bucket/x", "data": {"source": "hub"}, "task": "sst2", "teacher": {"model": "/m"}}
    assert with_absolute_paths(tree, Path("/nowhere"), nodes=3) == (tree, {})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"storage": "runs"}, r"^storage: runs is a relative path, .* 3 nodes; give an absolute path .*s3://bucket"),
        ({"data": {"source": "data"}}, r"^data\.source: data is a relative path, .* 3 nodes; .*, or hub$"),
        ({"task": {"name": "a", "files": {"train": "x.csv"}}}, r"^task\.files\.train: x\.csv is a relative path"),
        ({"teacher": {"model": "./m"}}, r"^teacher\.model: \./m is a relative path, .*, or a name on the hub$"),
        ({"tracking": {"uri": "runs"}}, r"^tracking\.uri: runs is a relative path, .*, or a server's URL$"),
        ({"bank": {"files": ["/a", "b"]}}, r"^bank\.files\.1: b is a relative path"),
    ],
)
def test_a_relative_path_is_refused_where_several_nodes_would_look_for_it(tree: Tree, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        with_absolute_paths(tree, Path("/nowhere"), nodes=3)


@pytest.mark.parametrize(
    ("kind", "text", "relative"),
    [
        ("storage", "runs", True),
        ("storage", "gs://bucket/x", False),
        ("storage", "/runs", False),
        ("source", "generated", False),
        ("model", "roberta-large", False),
        ("model", "org/name", False),
        ("model", "../m", True),
        ("model", "a/b/c", True),
        ("tracker", "mlruns", True),
        ("tracker", "sqlite:///mlflow.db", True),
        ("tracker", "sqlite:////shared/mlflow.db", False),
        ("tracker", "http://mlflow:5000", False),
        ("tracker", "databricks", False),
        ("tracker", "file:/shared/mlruns", False),
        ("tracker", "file:///shared/mlruns", False),
        ("tracker", "file:mlruns", True),
        ("tracker", "sqlite:///:memory:", False),
    ],
)
def test_names_and_addresses_are_no_relative_paths(kind: Any, text: str, relative: bool, tmp_path: Path) -> None:
    assert is_relative_path(kind, text, tmp_path) is relative


def test_a_tree_is_written_so_that_it_is_read_back_as_it_is() -> None:
    words: list[Tree] = ["no", "yes", "true", "1e5", "1e-5", "012", "~", "null", "", " a ", "a: b", "#", "2026-01-01"]
    tree: Tree = {
        "texts": [*words, "ü\u2028\x85\U0001f600", "x\ny"],
        "numbers": [1, -1, 0, 1.0e-5, 2.0, 1e22],
        "else": [True, False, None, {}, []],
        "1": {"on": "off"},
    }
    assert parse_yaml(to_yaml(tree), "written") == tree
    assert with_paths(tree, lambda *_: "changed") == tree


def test_the_name_of_an_entry_of_models_is_no_path_although_a_folder_is_called_so() -> None:
    tree = {
        "method": [{"use": "mate-kd", "generator": "writer"}, {"use": "mate-kd", "generator": "other"}],
        "models": {
            "writer": {"pretrain": {"texts": "task", "taught_by": "base"}},
            "general": {"pretrain": {"texts": "task", "taught_by": "teacher", "states": "pick"}},
        },
    }
    changed = with_paths(tree, lambda _, __, text: f"/folder/{text}")
    assert changed == {
        "method": [{"use": "mate-kd", "generator": "writer"}, {"use": "mate-kd", "generator": "/folder/other"}],
        "models": tree["models"],
    }
