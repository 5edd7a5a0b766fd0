"""A task's block -> the Task, and the source of its rows."""

from collections.abc import Mapping

from pydantic import ValidationError

from pipeline.recipe.errors import ABSENT, PlacedError, failed_check, split_field, unknown
from pipeline.recipe.schema.file import Data, TaskBlock
from stages.specs.tasks import BUILT_IN, REVIEWS, TRAIN, Metric, Task, hub_set


def task_of(block: TaskBlock) -> Task:
    """The built-in task of that name if the block has no other keys than ``files`` and ``select``, else the task that
    it describes. A PlacedError's place is within the block.
    """
    splits = {} if block.files is None else _splits(block.files)
    own = set(block.explicit()) - {"name", "files", "select"}
    if not own and block.name in BUILT_IN:
        task = BUILT_IN[block.name].model_copy(update=splits)
        return task if block.select is None else _with_select(task, block.select)
    if not own and block.files is None:
        raise unknown(("name",), block.name, "built-in task", list(BUILT_IN))
    return _described(block, splits or {"test": ("test",)})


def _with_select(task: Task, select: Metric) -> Task:
    """The task with another selecting metric. That of the headline is None, so that equal tasks have equal keys."""
    if select not in task.metrics:
        problem = f"must be one of the metrics of {task.name}: {', '.join(task.metrics)}"
        raise PlacedError(("select",), select, problem)
    return task.model_copy(update={"select": None if select == task.primary else select})


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
        task = Task.model_validate({**keys, **splits})
    except ValidationError as error:
        found = failed_check(error)
        place = ("metric",) if found.place == ("metrics",) else found.place
        raise PlacedError(place, ABSENT, found.problem) from error
    return task if block.select is None else _with_select(task, block.select)


def data_of(data: Data, block: TaskBlock, task: Task) -> Data:
    """The data settings of one task, with the source that is its default. PlacedError where the source lacks it."""
    if block.files is not None:
        return data
    if _is_built_in(task) and task.name == REVIEWS.name and "source" not in data.explicit():
        data = data.model_copy(update={"source": "generated"})
    _check_source(data.source, task)
    return data


def _is_built_in(task: Task) -> bool:
    """Whether this is the built-in task of its name, by whatever metric epochs are selected."""
    known = BUILT_IN.get(task.name)
    return known is not None and known.model_copy(update={"select": task.select}) == task


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
