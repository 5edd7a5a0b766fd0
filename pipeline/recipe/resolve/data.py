"""A task's block -> the Task, and the source of its rows."""

from collections.abc import Mapping

from pydantic import ValidationError

from pipeline.recipe.errors import ABSENT, PlacedError, failed_check, split_field, unknown
from pipeline.recipe.schema.file import Data, TaskBlock
from stages.specs.tasks import BUILT_IN, REVIEWS, TRAIN, Metric, Task, hub_set


def task_of(block: TaskBlock) -> Task:
    """The built-in task of that name if the block has no other keys than ``files`` and ``select``, else the task that
    it describes; without ``Task.select``, which is of trainings (``select_metric``). A PlacedError's place is within
    the block.
    """
    splits = {} if block.files is None else _splits(block.files)
    own = _describing_keys(block)
    if not own and block.name in BUILT_IN:
        return BUILT_IN[block.name].model_copy(update={**splits, "select": None})
    if not own and block.files is None:
        raise unknown(("name",), block.name, "built-in task", list(BUILT_IN))
    return _described(block, splits or {"test": ("test",)})


def _describing_keys(block: TaskBlock) -> set[str]:
    """The keys of the block that describe a task of its own: none where it names a built-in task."""
    return set(block.explicit()) - {"name", "files", "select"}


def select_metric(block: TaskBlock, task: Task) -> Metric | None:
    """The metric that selects the epochs of the task's trainings: that of the block, or else of the built-in task. None
    for the headline metric, so that it is in no key. A PlacedError's place is within the block."""
    built_in = None if _describing_keys(block) else BUILT_IN.get(block.name)
    metric = block.select or (None if built_in is None else built_in.select)
    if metric is not None and metric not in task.metrics:
        problem = f"must be one of the metrics of {task.name}: {', '.join(task.metrics)}"
        raise PlacedError(("select",), metric, problem)
    return None if metric == task.primary else metric


def _splits(files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """``dev`` and ``test`` of a Task: the names of those splits that have files."""
    if TRAIN not in files:
        raise PlacedError(("files", TRAIN), ABSENT, "missing, and needed")
    splits: dict[str, tuple[str, ...]] = {"dev": (), "test": ()}
    for name in files:
        kind = {"validation": "dev", "test": "test"}.get(name.partition("_")[0])
        if kind is not None:
            splits[kind] = (*splits[kind], name)
        elif name != TRAIN:
            problem = "is no split; name it train, validation or test, or let it begin with validation_ or test_"
            raise PlacedError(("files", name), ABSENT, problem)
    return splits


def _described(block: TaskBlock, splits: Mapping[str, tuple[str, ...]]) -> Task:
    if block.text is None:
        raise PlacedError(("text",), ABSENT, "missing, and needed: the column of text, or the two columns of a pair")
    if (block.labels is None) != block.regression:
        raise PlacedError((), ABSENT, f"{block.name} needs exactly one of labels and regression: true")
    metrics: tuple[Metric, ...] = block.metric or (("pearson",) if block.regression else ("accuracy",))
    keys = {"name": block.name, "text": block.text, "label": block.label, "labels": block.labels, "metrics": metrics}
    try:
        return Task.model_validate({**keys, **splits})
    except ValidationError as error:
        found = failed_check(error)
        place = ("metric",) if found.place == ("metrics",) else found.place
        raise PlacedError(place, ABSENT, found.problem) from error


def data_of(data: Data, block: TaskBlock, task: Task) -> Data:
    """The data settings of one task, with the source that is its default. PlacedError where the source lacks it."""
    if block.files is not None:
        return data
    if _is_built_in(task) and task.name == REVIEWS.name and "source" not in data.explicit():
        data = data.model_copy(update={"source": "generated"})
    _check_source(data.source, task)
    return data


def _is_built_in(task: Task) -> bool:
    """Whether this is the built-in task of its name."""
    known = BUILT_IN.get(task.name)
    return known is not None and known.model_copy(update={"select": None}) == task


def _check_source(source: str, task: Task) -> None:
    place = ("data", "source")
    if source == "generated" and not (_is_built_in(task) and task.name == REVIEWS.name):
        raise PlacedError(place, source, f"makes the task {REVIEWS.name} only; {task.name} needs hub or a folder")
    if source == "hub" and not _is_built_in(task):
        raise PlacedError(place, source, f"has no {task.name}, a task of your own; give it files, or name a folder")
    if source == "hub":
        try:
            hub_set(task.name)
        except ValueError as error:
            raise PlacedError(place, source, split_field(str(error))[1].removeprefix("hub ")) from error
