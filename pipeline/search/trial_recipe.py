"""The recipe of a trial: that of the file, with the values of the trial in the block of the method that is varied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RequestError
from pipeline.recipe import MethodUse, Recipe, SearchSettings, Student, TaskRecipe, parse
from pipeline.recipe.resolve.overrides import merged_for
from pipeline.recipe.yaml import Tree, plain, read, with_sets
from pipeline.search.values import Values, text_of


@dataclass(frozen=True)
class SearchedRecipe:
    """A recipe file with its search. ``tree`` is the file after ``--set`` and ``--storage``, without its search;
    ``methods`` are the blocks of the task's methods, of which that at ``place`` is varied."""

    tree: Mapping[str, Tree]
    search: SearchSettings
    methods: Sequence[Tree]
    place: int

    def block(self, values: Values) -> Tree:
        """The block of the method with these values."""
        given = self.methods[self.place]
        block: Tree = dict(given) if isinstance(given, dict) else {"use": given}
        for path, value in values.items():
            block = _with(block, path.split("."), value)
        return block

    def recipe(self, values: Values) -> Recipe:
        """The recipe with these values. Raises RequestError, whose place is in the search where it is one of them."""
        methods = [*self.methods[: self.place], self.block(values), *self.methods[self.place + 1 :]]
        given = self.tree.get("overrides")
        overrides = given if isinstance(given, dict) else {}
        own = overrides.get(self.search.task)
        changed = {**(own if isinstance(own, dict) else {}), "method": methods}
        tree = {**self.tree, "overrides": {**overrides, self.search.task: changed}}
        try:
            return parse(tree)
        except RequestError as error:
            raise RequestError(self._in_search(str(error), values)) from error

    def _in_search(self, line: str, values: Values) -> str:
        """The line of an error, with the place of the values in the file."""
        start = f"overrides.{self.search.task}.method.{self.place}."
        rest = line.removeprefix(start)
        if rest != line and any(rest.startswith((f"{path}:", f"{path}.")) for path in values):
            return f"search.vary.{rest}"
        return f"search.vary: with {text_of(values)}: {rest if rest == line else f'method.{self.place}.{rest}'}"

    def task(self, recipe: Recipe) -> TaskRecipe:
        """The searched task of a recipe."""
        return next(task for task in recipe.tasks if task.task.name == self.search.task)

    def use(self, recipe: Recipe) -> MethodUse:
        """The searched method of a recipe."""
        return next(use for use in self.task(recipe).methods if use.label == self.search.method)

    def student(self, recipe: Recipe) -> Student:
        """The searched student of a recipe."""
        return next(one for one in self.task(recipe).students if one.label == self.search.student)


def read_searched(path: Path, sets: Sequence[str], storage: str | None, search: SearchSettings) -> SearchedRecipe:
    """The recipe in a file that is known to be sound, with ``search``, as it was resolved. Raises RequestError."""
    whole = with_sets(plain(read(path)), sets)
    assert isinstance(whole, dict)
    tree = {name: block for name, block in whole.items() if name != "search"}
    if storage is not None:
        tree["storage"] = storage
    overrides = tree.get("overrides")
    changes = overrides.get(search.task) if isinstance(overrides, dict) else None
    methods = merged_for(tree, changes if isinstance(changes, dict) else {})["method"]
    blocks = methods if isinstance(methods, list) else [methods]
    place = next(number for number, block in enumerate(blocks) if _label(block) == search.method)
    return SearchedRecipe(tree, search, blocks, place)


def _label(block: Tree) -> Any:
    return (block.get("label") or block.get("use")) if isinstance(block, dict) else block


def _with(block: Tree, path: Sequence[str], value: Any) -> Tree:
    """The block with ``value`` at a path. A text in the place of a block on the way is the kind on an axis."""
    if not path:
        return plain(value)
    inner: Any = {} if block is None else {"kind": block} if isinstance(block, str) else block
    if not isinstance(inner, dict):
        raise RequestError(f"search.vary: {path[0]} lies in {block}, which is no block")
    return {**inner, path[0]: _with(inner.get(path[0]), path[1:], value)}
