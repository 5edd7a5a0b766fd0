"""The rows of a task's splits at hand: the test rows of a file of the leaderboard, and the labels of train."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from statistics import fmean

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext
from pipeline.graph.row_counts import TaskRows
from pipeline.leaderboard.files import LeaderboardFile
from pipeline.recipe import Recipe, TaskRecipe
from stages.corpus.sources import SplitSource, checked_rows, split_sources
from stages.specs.tasks import Task

CHUNK = 4096
"""Rows that are predicted at once."""

INDEX = "idx"
"""The column that numbers the rows of GLUE's splits, where the data have it."""

TextRow = tuple[str, ...]


@dataclass(frozen=True)
class OfficialRows:
    """The test rows of a file of the leaderboard, as a stream. ``task`` has the texts of the rows, and their official
    number in the place of a label."""

    source: SplitSource
    task: Task

    def count(self) -> int:
        """The number of rows, which are read to the end. Raises ValueError for rows that cannot be used, or that are
        not in the order of their official numbers."""
        count = 0
        for block in checked_rows(self.source, self.task, "test"):
            for place, number in zip(block.numbers, block.labels, strict=True):
                if number is not None and number != place:
                    raise ValueError(
                        f"{self.source.origin}: row {place + 1} has {number:g} in the column {INDEX}, which must count "
                        "the rows from 0; restore the official order"
                    )
            count += len(block.numbers)
        return count

    def texts(self) -> Iterator[list[TextRow]]:
        """The texts of rows that ``count`` found good, in order, in lists of at most ``CHUNK`` rows."""
        rows = chain.from_iterable(block.texts for block in checked_rows(self.source, self.task, "test"))
        while chunk := list(islice(rows, CHUNK)):
            yield chunk


@dataclass(frozen=True)
class RowsAtHand:
    """Where a recipe says that rows are. ``context`` is one for the recipe's storage."""

    recipe: Recipe
    context: GraphContext

    def test(self, file: LeaderboardFile) -> OfficialRows:
        """The test rows of a file. Raises RequestError where they are not at hand."""
        data = file.rows_of
        # The number of a row is read as the label of a regression: data without that column can be read as well.
        numbered = {"label": INDEX, "labels": None}
        recipe = self._recipe_of(data, file.task)
        task = recipe.task.model_copy(update=numbered)
        return OfficialRows(self._split(recipe, task, file.split), task)

    def most_frequent(self, task: Task) -> float:
        """The number of the most frequent label of train, the lowest of several; of a regression the mean. Raises
        RequestError where train is not at hand."""
        recipe = self._recipe_of(task, task)
        source = self._split(recipe, recipe.task, recipe.task.train)
        with refused(task.name):
            labels = [label for block in checked_rows(source, recipe.task, "train") for label in block.labels]
        known = [float(label) for label in labels if isinstance(label, int | float)]
        return fmean(known) if task.regression else min(Counter(known).items(), key=lambda one: (-one[1], one[0]))[0]

    def _recipe_of(self, data: Task, task: Task) -> TaskRecipe:
        """The recipe of the task whose rows are ``data``. Where there is none, ``data`` lie in the same source as the
        rows of ``task``, or of the recipe's first task."""
        own = next((one for one in self.recipe.tasks if one.task.name == task.name), None)
        if own is not None and data == task:
            return own
        return (own or self.recipe.tasks[0]).model_copy(update={"task": data, "files": None, "hub": None})

    def _split(self, recipe: TaskRecipe, task: Task, split: str) -> SplitSource:
        """A split of the recipe's data, read as rows of ``task``."""
        if recipe.files is None and recipe.hub is None and recipe.data.source == "generated":
            raise RequestError(f"data.source: generated has no {task.name}; name a folder, or hub")
        source, files = TaskRows(self.context, recipe).source()
        with refused("data"):
            found = split_sources(source, task, files)
        if split not in found:
            raise RequestError(f"the data of {task.name} have no split {split}")
        return found[split]
