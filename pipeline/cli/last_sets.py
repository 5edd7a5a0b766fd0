"""The ``--set`` of a recipe's last run, which ``report`` and ``curves`` take over, and the warning about another recipe
of the same name. What is printed here goes to the standard error, so that JSON and CSV stay clean."""

import shlex
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipeline.artifacts.last_run import LastRun, read_last_run, write_last_run
from pipeline.cli.request import Request
from pipeline.errors import RequestError
from pipeline.execution.job_env import origin_of
from pipeline.recipe import Origin, Recipe, load
from pipeline.storage import Storage, open_storage


def with_last_sets(request: Request) -> Request:
    """The request with the ``--set`` of the last run of its recipe on its storage, and a line about it; unchanged where
    it has a ``--set`` of its own or no such run is known. Raises RequestError."""
    if request.sets:
        return request
    recipe = load(request.recipe, (), request.storage)
    last = read_last_run(open_storage(recipe.storage), recipe.name)
    if last is None or not last.sets or recipe.origin is None or not _same_recipe(last, recipe.origin):
        return request
    options = shlex.join(word for change in last.sets for word in ("--set", change))
    found = replace(request, sets=last.sets)
    try:
        load(found.recipe, found.sets, found.storage)
    except RequestError as error:
        _print(f"note: the last run had {options}, which the recipe no longer takes ({error}): left out")
        return request
    _print(f"note: with {options}, as in the last run ({last.began}); give another --set, or --as-written for none")
    return found


def note_run(storage: Storage, recipe: Recipe) -> None:
    """Note that the recipe runs on the storage now. Nothing happens where the storage cannot be written."""
    origin = origin_of(recipe)
    if origin is not None:
        began = datetime.now().isoformat(" ", "minutes")
        write_last_run(storage, recipe.name, LastRun(str(origin.file), origin.sha256, origin.sets, began))


def warn_of_same_name(storage: Storage, recipe: Recipe) -> None:
    """Print a line if the last run of the recipe's name on the storage was of another recipe: then the reasons of
    plans, names in ``show`` and ``--set`` of the last run are mixed up, though never results."""
    last, origin = read_last_run(storage, recipe.name), origin_of(recipe)
    if last is not None and origin is not None and not _same_recipe(last, origin):
        _print(
            f"warning: name: {recipe.name} is also the name of {last.file}, which ran last on {storage} ({last.began})"
            "; give each recipe a name of its own, or plans compare one with the other"
        )


def warn_of_missing(storage: Storage) -> None:
    """Print a line if the storage is a directory that does not exist: perhaps its name is misspelt."""
    if storage.shared and not storage.local.exists():
        _print(f"warning: storage: there is no {storage} yet, so nothing has been built there")


def _same_recipe(last: LastRun, origin: Origin) -> bool:
    """Whether a run was of this recipe: of the same file, which may have been edited since, or of a file with the same
    keys and values, such as a copy on another machine."""
    return last.file == str(origin.file) or last.sha256 == origin.sha256


def _print(text: str) -> None:
    print(f"stillhouse: {text}", file=sys.stderr)


def storage_and_recipe(recipe: str | None, storage: str | None) -> tuple[Storage, str | None]:
    """The storage in which ``show`` and ``verify`` look, and the recipe's name. ``recipe`` is a name or a recipe file;
    a file also says which storage it is, where ``storage`` is None. Raises RequestError."""
    if recipe is None or not (Path(recipe).exists() or recipe.endswith((".yaml", ".yml"))):
        return open_storage(storage or "runs"), recipe
    found = load(Path(recipe), (), storage)
    return open_storage(found.storage), found.name
