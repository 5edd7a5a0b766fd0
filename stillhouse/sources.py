"""What the functions take for a recipe and for a model, and how these are found."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cli.models.find_model import FoundModel, find_model, model_of_recipe
from pipeline.cli.request import ResolvedRequest, resolve_recipe
from pipeline.errors import RequestError
from pipeline.recipe import Recipe, load, parse

RecipeSource = Recipe | str | os.PathLike[str] | Mapping[str, object]
"""A recipe that is loaded, its file, or its keys and values."""

Changes = Mapping[str, object] | Sequence[str]
"""Changes of a recipe: ``{"train.epochs": 2}``, or ``["train.epochs=2"]`` as the option ``--set`` takes them."""


def recipe_of(source: RecipeSource, sets: Changes = (), storage: str | os.PathLike[str] | None = None) -> Recipe:
    """The recipe in ``source``, with the changes ``sets`` and ``storage`` in the place of its own. Raises
    RequestError."""
    if isinstance(source, Recipe):
        return source
    changes, place = change_texts(sets), None if storage is None else os.fspath(storage)
    if isinstance(source, Mapping):
        return parse(source, changes, place)
    return load(Path(source), changes, place)


def change_texts(sets: Changes) -> list[str]:
    """Each change as ``a.b=value``, with the value as JSON, which is YAML too. Raises RequestError."""
    if isinstance(sets, str):
        raise RequestError(f'sets: {sets}; give a mapping such as {{"train.epochs": 2}}, or a list of KEY=VALUE')
    if not isinstance(sets, Mapping):
        return list(sets)
    try:
        return [f"{path}={json.dumps(value, ensure_ascii=False)}" for path, value in sets.items()]
    except (TypeError, ValueError) as error:
        raise RequestError(f"sets: {error}; give numbers, texts, lists and mappings") from error


def resolved(source: RecipeSource, reads_data: bool) -> ResolvedRequest:
    """A recipe with its storage and its graph; ``reads_data``: the data of its tasks are read to the end, unless they
    are known. Raises RequestError."""
    return resolve_recipe(recipe_of(source), reads_data)


def found(
    model: str | os.PathLike[str], recipe: RecipeSource | None, storage: str | os.PathLike[str] | None
) -> FoundModel:
    """The model that ``model`` names: with ``recipe``, by ``method/student/seed@task``, of which student, seed and task
    may be left out where that leaves one model; else as the commands take it. Raises RequestError."""
    if recipe is None:
        return find_model(os.fspath(model), None if storage is None else os.fspath(storage), ())
    if storage is not None:
        raise RequestError(f"storage: {os.fspath(storage)}; the recipe says where its models are: leave it out")
    own = resolved(recipe, reads_data=False)
    return model_of_recipe(own, os.fspath(model), own.recipe.name)
