"""Reading a recipe file: parse YAML, apply ``--set``, merge overrides, validate, resolve, check.

Everything that is wrong becomes a RequestError of one line.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import RequestError
from pipeline.recipe.checks import check_equal_steps, check_resources, check_starts, check_task
from pipeline.recipe.errors import PlacedError, first_error, placed, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import Origin, Recipe, TaskRecipe
from pipeline.recipe.numbers import check_numbers
from pipeline.recipe.paths import with_home
from pipeline.recipe.resolve.overrides import in_file, merged_for
from pipeline.recipe.resolve.search import search_of
from pipeline.recipe.resolve.tasks import task_recipe
from pipeline.recipe.schema.file import RecipeFile
from pipeline.recipe.yaml import Tree, digest, plain, read, with_sets, without_nulls


def load(path: Path, sets: Sequence[str] = (), storage: str | None = None) -> Recipe:
    """The recipe in a YAML file.

    ``sets`` are changes ``a.b=c``, made before anything is validated; ``storage`` replaces that of the recipe.
    Raises RequestError, of one line that begins with the path.
    """
    tree = read(path)
    try:
        recipe = parse(tree, sets, storage)
    except RequestError as error:
        if str(error).startswith("--set"):
            raise
        raise RequestError(f"{path}: {error}") from error
    return recipe.model_copy(update={"origin": Origin(file=path.resolve(), sha256=digest(tree), sets=tuple(sets))})


def parse(document: object, sets: Sequence[str] = (), storage: str | None = None) -> Recipe:
    """The recipe in a document of blocks, lists and scalars, as a YAML reader makes it."""
    tree = with_sets(plain(document), sets)
    if storage is not None and isinstance(tree, dict):
        tree = {**tree, "storage": storage}
    try:
        tree = with_home(tree)
    except RuntimeError as error:  # no such user
        raise RequestError(f"{error} (a path that begins with ~)") from error
    try:
        return _recipe(tree)
    except PlacedError as error:
        raise RequestError(error.line()) from error


def _recipe(tree: Tree) -> Recipe:
    if not isinstance(tree, dict):
        raise PlacedError((), tree, "must be a block of keys: name, task, teacher, student, method and more")
    check_numbers(tree)
    file = _validated(tree)
    resources = FrozenMapping(dict(file.resources))
    check_resources(resources)
    tracking = file.tracking
    if tracking is not None and not tracking.project:
        tracking = tracking.model_copy(update={"project": file.name})
    tasks = tuple(_tasks(file, tree))
    with placed("search"):
        search = None if file.search is None else search_of(file.search, tasks)
    return Recipe(
        name=file.name,
        storage=file.storage,
        tasks=tasks,
        resources=resources,
        limits=file.limits,
        tracking=tracking,
        search=search,
    )


def _validated(tree: dict[str, Tree]) -> RecipeFile:
    """The file with every key validated, each by itself."""
    written = without_nulls(tree)
    try:
        return RecipeFile.model_validate(written)
    except ValidationError as error:
        raise first_error(error, written) from error


def _tasks(file: RecipeFile, tree: dict[str, Tree]) -> Sequence[TaskRecipe]:
    names = [block.name for block in file.task]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise PlacedError(("task", index), name, "stands twice in the recipe; keep one of them")
    for name in file.overrides:
        if name not in names:
            raise unknown(("overrides", name), name, "task of this recipe", names)
    recipes = [_task(file, index, name, tree) for index, name in enumerate(names)]
    known = dict(zip(names, recipes, strict=True))
    for name, recipe in known.items():
        with _places_in_file(tree, name):
            check_task(recipe)
            check_starts(recipe, known)
            if file.equal_steps:
                check_equal_steps(recipe)
    return recipes


def _task(file: RecipeFile, index: int, name: str, tree: dict[str, Tree]) -> TaskRecipe:
    overrides = tree.get("overrides")
    changes = overrides.get(name) if isinstance(overrides, dict) else None
    with _places_in_file(tree, name):
        if isinstance(changes, dict):
            file = _validated(merged_for(tree, changes))
        return task_recipe(file, index)


@contextmanager
def _places_in_file(tree: dict[str, Tree], task: str) -> Iterator[None]:
    """PlacedErrors raised inside, whose place is in the tree merged for ``task``, get their place in the file."""
    try:
        yield
    except PlacedError as error:
        raise PlacedError(in_file(error.place, tree, task), error.value, error.problem) from error
