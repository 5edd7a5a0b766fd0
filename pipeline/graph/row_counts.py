"""The source of a task's rows and their numbers, as far as they are known without reading the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext
from pipeline.graph.nodes import Node, Quantity, SplitSizes
from pipeline.graph.split_sizes import split_sizes
from pipeline.recipe import TaskRecipe
from stages.corpus.task_files import count_rows, task_files
from stages.specs.corpus import Files, Generated, Hub, Source
from stages.specs.tasks import hub_set


@dataclass(frozen=True)
class TaskRows:
    """The source and the row counts of one task."""

    context: GraphContext
    recipe: TaskRecipe

    def source(self) -> tuple[Source, Mapping[str, Path]]:
        """The source in the corpus's spec, and the file of each split where it has files. Raises RequestError."""
        recipe, data = self.recipe, self.recipe.data
        if recipe.files is not None:
            files = {split: Path(path) for split, path in recipe.files.items()}
            for split, path in files.items():
                if not path.is_file():
                    raise RequestError(
                        f"task.files.{split}: {path} is not a file; "
                        "give a path, absolute or relative to the current folder"
                    )
            return Files(), files
        if data.source == "generated":
            return data.generated, {}
        if data.source == "hub":
            with refused("data"):
                place = hub_set(self.recipe.task.name)
            commit = self.context.pins.commit(place.repository, "dataset", "data.source", place.revision)
            return Hub(repository=place.repository, config=place.config, revision=commit), {}
        with refused("data"):
            return Files(), task_files(Path(data.source), recipe.task)

    def by_split(self) -> Mapping[str, int]:
        """Split -> its rows in the source; {} if unknown without reading."""
        if self.recipe.task.name not in self.context.rows:
            self.context.rows[self.recipe.task.name] = self._count(*self.source())
        return self.context.rows[self.recipe.task.name]

    def sizes(self) -> SplitSizes | None:
        """The rows of the corpus's splits; None if unknown without reading."""
        rows = self.by_split()
        return split_sizes(rows, self.recipe.task, self.recipe.data) if rows else None

    def _count(self, source: Source, files: Mapping[str, Path]) -> Mapping[str, int]:
        if isinstance(source, Generated):
            counts: dict[str, int | None] = {
                "train": source.train,
                "validation": source.validation,
                "test": source.test,
            }
        else:
            counts = {split: count_rows(path) for split, path in files.items()}
        found = {}
        for split, count in counts.items():
            if count is None:
                return {}
            if count == 0:
                raise ValueError(f"{files.get(split, split)}: no rows; each split needs at least 1")
            found[split] = count
        return found

    def train(self, corpus: Node) -> Quantity:
        """The rows of train that models are trained on: without those that are held out or cut off."""
        sizes = self.sizes()
        return sizes.quantity(sizes.trained) if sizes else Quantity.unknown(corpus.name)

    def distinct(self, corpus: Node) -> Quantity:
        """A bound on the rows of train of different texts, for which models' outputs are stored."""
        sizes = self.sizes()
        return Quantity.at_most(sizes.trained) if sizes else Quantity.unknown(corpus.name)

    def evaluated(self) -> Quantity:
        """The rows of dev and test splits."""
        sizes = self.sizes()
        if sizes is None:
            return Quantity.unknown(f"corpus@{self.recipe.task.name}")
        return Quantity.exact(sizes.evaluated) if self.recipe.task.dev else sizes.quantity(sizes.evaluated)
