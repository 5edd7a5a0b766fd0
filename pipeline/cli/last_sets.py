"""The ``--set`` of a recipe's last run, which ``report``, ``curves`` and ``gc`` take over, and the warning about
another recipe of the same name. What is printed here goes to the standard error, so that JSON and CSV stay clean."""

import shlex
import sys
from dataclasses import replace
from datetime import datetime

from pipeline.artifacts.last_run import LastRun, read_last_run, write_last_run
from pipeline.cli.request import Request, ResolvedRequest, resolve
from pipeline.errors import RequestError
from pipeline.execution.job_env import origin_of
from pipeline.recipe import Origin, Recipe, load
from pipeline.storage import Storage, open_storage


def with_last_sets(request: Request) -> Request:
    """The request with the ``--set`` of the last run of its recipe on its storage, and a line about it; unchanged where
    it has a ``--set`` of its own or no such run is known. Raises RequestError."""
    found, began = _last_request(request)
    if found != request:
        _print(
            f"note: with {_options(found)}, as in the last run ({began}); give another --set, or --as-written for none"
        )
    return found


def resolve_built(request: Request, as_written: bool) -> ResolvedRequest:
    """The request with the ``--set`` of the last run unless ``as_written``, resolved without reading data of tasks; a
    line is printed if its storage does not exist. Raises RequestError, which says whose ``--set`` it was."""
    found = request if as_written else with_last_sets(request)
    try:
        resolved = resolve(found, reads_data=False)
    except RequestError as error:
        if found == request:
            raise
        raise RequestError(f"{error} (with the --set of the last run; --as-written leaves it out)") from error
    if resolved.storage.shared and not resolved.storage.local.exists():  # perhaps its name is misspelt
        _print(f"warning: storage: there is no {resolved.storage} yet, so nothing has been built there")
    return resolved


def run_of_same_name(recipe: Recipe, storage: Storage) -> LastRun | None:
    """The last run of the recipe's name on the storage, where that was of another recipe; else None."""
    last, origin = read_last_run(storage, recipe.name), origin_of(recipe)
    return last if last is not None and origin is not None and not _same_recipe(last, origin) else None


def as_written_and_last(request: Request) -> list[Request]:
    """The request, and the one with the ``--set`` of the last run of its recipe, if that had any, with a line about it:
    for ``gc``, which frees what neither needs. Raises RequestError."""
    found, began = _last_request(request)
    if found == request:
        return [request]
    _print(f"note: what the last run ({began}) needs with {_options(found)} is kept, too; --as-written frees it")
    return [request, found]


def _last_request(request: Request) -> tuple[Request, str]:
    """The request with the ``--set`` of its recipe's last run, and when that began; unchanged where it has a ``--set``
    of its own, or no such run is known."""
    if request.sets:
        return request, ""
    recipe = load(request.recipe, (), request.storage)
    last = read_last_run(open_storage(recipe.storage), recipe.name)
    if last is None or not last.sets or recipe.origin is None or not _same_recipe(last, recipe.origin):
        return request, ""
    found = replace(request, sets=last.sets)
    try:
        load(found.recipe, found.sets, found.storage)
    except RequestError as error:
        _print(f"note: the last run had {_options(found)}, which the recipe no longer takes ({error}): left out")
        return request, ""
    return found, last.began


def _options(request: Request) -> str:
    return shlex.join(word for change in request.sets for word in ("--set", change))


def note_run(storage: Storage, recipe: Recipe) -> None:
    """Note that the recipe runs on the storage now. Nothing happens where the storage cannot be written."""
    origin = origin_of(recipe)
    if origin is not None:
        began = datetime.now().isoformat(" ", "minutes")
        write_last_run(storage, recipe.name, LastRun(str(origin.file), origin.sha256, origin.sets, began))


def warn_of_same_name(storage: Storage, recipe: Recipe) -> None:
    """Print a line if the last run of the recipe's name on the storage was of another recipe: then the reasons of
    plans, names in ``show`` and ``--set`` of the last run are mixed up, though never results."""
    last = run_of_same_name(recipe, storage)
    if last is not None:
        _print(
            f"warning: name: {recipe.name} is also the name of {last.file}, which ran last on {storage} ({last.began})"
            "; give each recipe a name of its own, or plans compare one with the other"
        )


def _same_recipe(last: LastRun, origin: Origin) -> bool:
    """Whether a run was of this recipe: of the same file, which may have been edited since, or of a file with the same
    keys and values, such as a copy on another machine."""
    return last.file == str(origin.file) or last.sha256 == origin.sha256


def _print(text: str) -> None:
    print(f"stillhouse: {text}", file=sys.stderr)
