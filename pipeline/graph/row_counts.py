"""The source of a task's rows and their numbers.

The data are read to the end for it, once for each content: what is wrong with them is known before any work starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.artifact_sizes import ROW_BYTES, corpus_bytes
from pipeline.graph.context import GraphContext
from pipeline.graph.external.inputs import data_input
from pipeline.graph.fingerprint import canonical, plain, sha256
from pipeline.graph.nodes import Quantity, SplitSizes
from pipeline.graph.split_sizes import split_sizes
from pipeline.recipe import TaskRecipe
from pipeline.storage.remote_files import fetched_file, fetched_folder, is_remote
from stages.corpus.pixels.survey import survey_images
from stages.corpus.sources import split_sources
from stages.corpus.survey import SURVEY, TaskSurvey, check_size, survey_task
from stages.corpus.task_files import kinds_of_files, task_files, task_folder
from stages.files.kinds import split_suffix
from stages.images.sources.find import image_places
from stages.specs.corpus import Files, Generated, Hub, Source
from stages.specs.tasks import hub_set


@dataclass(frozen=True)
class TaskRows:
    """The source and the row counts of one task."""

    context: GraphContext
    recipe: TaskRecipe

    def source(self) -> tuple[Source, Mapping[str, Path]]:
        """The source in the corpus's spec, and the file of each split where it has files. Raises RequestError."""
        name = self.recipe.task.name
        if name not in self.context.sources:  # files in a bucket are listed and copied for it
            self.context.sources[name] = self._find_source()
        return self.context.sources[name]

    def _find_source(self) -> tuple[Source, Mapping[str, Path]]:
        recipe, data = self.recipe, self.recipe.data
        if recipe.files is not None:
            return Files(), {split: self._given_file(split, text) for split, text in recipe.files.items()}
        if recipe.hub is not None:
            hub = recipe.hub
            commit = self.context.pins.commit(hub.repository, "dataset", "task.hub", hub.revision)
            return Hub(repository=hub.repository, config=hub.config, revision=commit), {}
        if data.source == "generated":
            return data.generated, {}
        if data.source == "hub":
            with refused("data"):
                place = hub_set(self.recipe.task.name)
            commit = self.context.pins.commit(place.repository, "dataset", "data.source", place.revision)
            return Hub(repository=place.repository, config=place.config, revision=commit), {}
        task, folder = recipe.task, Path(data.source)
        if task.image is not None:
            if is_remote(data.source):
                raise RequestError(f"data.source: {data.source}, but images are read from this machine; download them")
            with refused("data"):
                return Files(), image_places(task_folder(folder, task), task)
        if is_remote(data.source):
            splits, kinds = (task.train, *task.dev, *task.test), kinds_of_files(task)
            with refused("data.source"):
                folder = fetched_folder(data.source, task.name, lambda path: split_suffix(path, kinds) in splits)
        with refused("data"):
            return Files(), task_files(folder, task)

    def _given_file(self, split: str, text: str) -> Path:
        if is_remote(text):
            if self.recipe.task.image is not None:
                raise RequestError(f"task.files.{split}: {text}, but images are read from this machine; download them")
            with refused(f"task.files.{split}"):
                return fetched_file(text)
        if "://" in text:
            raise RequestError(
                f"task.files.{split}: {text} is no address that is read from; download the file, or give s3:// or gs://"
            )
        path = Path(text)
        with refused(f"task.files.{split}"):
            there = path.is_file() or (self.recipe.task.image is not None and path.is_dir())
        if not there:
            problem = "is no regular file" if path.exists() else "is not a file"
            raise RequestError(
                f"task.files.{split}: {path} {problem}; give a path, absolute or relative to the current folder"
            )
        return path

    def sizes(self) -> SplitSizes | None:
        """The rows of the corpus's splits; None if they are unknown without reading the data, which are not to be read
        now. Raises RequestError."""
        task = self.recipe.task
        if task.name not in self.context.sizes:
            self.context.sizes[task.name] = self._sizes(*self.source())
        return self.context.sizes[task.name]

    def _sizes(self, source: Source, files: Mapping[str, Path]) -> SplitSizes | None:
        data, task = self.recipe.data, self.recipe.task
        if isinstance(source, Generated):
            counts = {"train": source.train, "validation": source.validation, "test": source.test}
            return split_sizes(counts, task, data)
        with refused(self._field()):
            found = self._survey(source, files)
            if found is None:
                return None
            check_size(found, task, data.holdout, data.train_rows)
        if found.warnings and self.recipe.kind is None:  # they are of rows that are trained on
            self.context.warn(f"{task.name}: {'; '.join(found.warnings)}")
        self.context.image_shapes[task.name] = found.shape
        repeats = found.splits[task.train].texts < found.rows[task.train]
        return split_sizes(found.rows, task, data, repeats)

    def _field(self) -> str:
        """The recipe's key that says where the rows are."""
        if self.recipe.hub is not None:
            return "task.hub"
        return "data.source" if self.recipe.files is None else "task.files"

    def _survey(self, source: Source, files: Mapping[str, Path]) -> TaskSurvey | None:
        """What is known of the data, which are read if no survey of the same content is kept and they may be read now.
        ValueError for data that cannot be right."""
        task, kept = self.recipe.task, self.context.digests.surveys
        content = {split: data_input(path, self.context.digests).identity for split, path in files.items()}
        identity = sha256(canonical([SURVEY, plain(task), plain(source), content]))
        found = kept.read(identity)
        if found is None and self.context.reads_data:
            if task.image is None:
                found = survey_task(task, split_sources(source, task, files))
            else:
                found = survey_images(task, files)
            kept.add(identity, found)
        return found

    def train(self) -> Quantity:
        """The rows of train that models are trained on: without those that are held out or cut off."""
        sizes = self.sizes()
        return self._unknown() if sizes is None else sizes.quantity(sizes.trained)

    def distinct(self) -> Quantity:
        """The rows of train of different texts, for which models' outputs are stored, in each of their views: an upper
        bound where texts are repeated."""
        sizes = self.sizes()
        if sizes is None:
            return self._unknown()
        rows = Quantity.at_most(sizes.trained) if sizes.cut else Quantity.exact(sizes.trained)
        return rows.times(1 if self.recipe.data.views is None else self.recipe.data.views.views)

    def image_shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the images; that of CIFAR where they were not read yet, and are not to be read now."""
        self.sizes()
        return self.context.image_shapes.get(self.recipe.task.name) or (self.recipe.task.channels, 32, 32)

    def corpus_bytes(self, rows: int) -> int:
        """Bytes of a corpus of so many rows, about."""
        if self.recipe.task.image is not None:
            return rows * (prod(self.image_shape()) + ROW_BYTES)
        return corpus_bytes(self.source()[1].values(), rows, self.recipe, self.context.digests)

    def held_out(self) -> Quantity:
        """The rows that are held out of train to select epochs and to calibrate teachers."""
        sizes = self.sizes()
        return self._unknown() if sizes is None else sizes.quantity(sizes.held_out)

    def evaluated(self) -> Quantity:
        """The rows of dev and test splits."""
        sizes = self.sizes()
        if sizes is None:
            return self._unknown()
        return Quantity.exact(sizes.evaluated) if self.recipe.task.dev else sizes.quantity(sizes.evaluated)

    def _unknown(self) -> Quantity:
        return Quantity.unknown(f"corpus@{self.recipe.task.name}")
