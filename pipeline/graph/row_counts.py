"""Where a task's rows come from, and how many there will be, as far as that is known before anything is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext
from pipeline.graph.nodes import Node, Quantity
from pipeline.recipe import TaskRecipe
from stages.corpus.task_files import count_rows, task_files
from stages.specs.corpus import Files, Generated, Hub, Source
from stages.specs.tasks import hub_set


@dataclass(frozen=True)
class TaskRows:
    """The rows of one task."""

    context: GraphContext
    recipe: TaskRecipe

    def source(self) -> tuple[Source, Mapping[str, Path]]:
        recipe, data = self.recipe, self.recipe.data
        if recipe.files is not None:
            files = {split: Path(path) for split, path in recipe.files.items()}
            for split, path in files.items():
                if not path.is_file():
                    raise RequestError(f"task.files.{split}: {path} is no file; give a path from where you run this")
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
        """Rows of each split that the corpus will hold, holdout within train; {} where only reading would tell."""
        if self.recipe.task.name not in self.context.rows:
            self.context.rows[self.recipe.task.name] = self._count(*self.source())
        return self.context.rows[self.recipe.task.name]

    def _count(self, source: Source, files: Mapping[str, Path]) -> Mapping[str, int]:
        data, task = self.recipe.data, self.recipe.task
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
            limit = data.train_rows if split == task.train else data.eval_rows
            found[split] = count if limit is None else min(count, limit)
        return found

    def train(self, corpus: Node) -> Quantity:
        """At most the rows of train, before any are held out or found to be the same."""
        rows = self.by_split()
        return Quantity.at_most(rows[self.recipe.task.train]) if rows else Quantity.unknown(corpus.name)

    def evaluated(self) -> Quantity:
        """Rows of the dev and test splits; a dev split that is cut from train is not counted before it is cut."""
        rows = self.by_split()
        if not self.recipe.task.dev or not rows:
            return Quantity.unknown(f"corpus@{self.recipe.task.name}")
        return Quantity.exact(sum(rows.values()) - rows[self.recipe.task.train])
