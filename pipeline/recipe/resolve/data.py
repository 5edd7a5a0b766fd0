"""A task's block -> the Task, and the source of its rows."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.recipe.errors import ABSENT, Place, PlacedError, failed_check, split_field, unknown
from pipeline.recipe.schema.file import Data
from pipeline.recipe.schema.tasks import HubTask, TaskBlock
from stages.specs.tasks import BUILT_IN, REVIEWS, TOKEN_METRICS, TRAIN, Metric, Task, hub_set
from stages.tagging.tags import check_tag_set


def task_of(block: TaskBlock) -> Task:
    """The built-in task of that name if the block has no other keys than where its rows are and ``select``, else the
    task that it describes; without ``Task.select``, which is of trainings (``select_metric``). A PlacedError's place is
    within the block.
    """
    splits = _splits_of(block)
    own = _describing_keys(block)
    if not own and block.name in BUILT_IN:
        if block.kind == "tokens" and BUILT_IN[block.name].unit != "word":
            raise PlacedError(("kind",), "tokens", f"but the words of {block.name} have no labels; leave it out")
        return BUILT_IN[block.name].model_copy(update={**splits, **_scheme_of(block), "select": None})
    if not own and block.files is None and block.hub is None:
        raise unknown(("name",), block.name, "built-in task", list(BUILT_IN))
    return _described(block, splits or {"test": ("test",)})


def _describing_keys(block: TaskBlock) -> set[str]:
    """The keys of the block that describe a task of its own: none where it names a built-in task."""
    return set(block.explicit()) - {"name", "kind", "scheme", "files", "hub", "config", "select"}


def select_metric(block: TaskBlock, task: Task) -> Metric | None:
    """The metric that selects the epochs of the task's trainings: that of the block, or else of the built-in task. None
    for the headline metric, so that it is in no key. A PlacedError's place is within the block."""
    built_in = None if _describing_keys(block) else BUILT_IN.get(block.name)
    metric = block.select or (None if built_in is None else built_in.select)
    if metric is not None and metric not in task.metrics:
        problem = f"must be one of the metrics of {task.name}: {', '.join(task.metrics)}"
        raise PlacedError(("select",), metric, problem)
    return None if metric == task.primary else metric


def hub_of(block: TaskBlock) -> HubTask | None:
    """The data set on the hub with the rows of the task; None where its rows are elsewhere. A PlacedError's place is
    within the block."""
    hub = block.hub
    if hub is None:
        if block.config is not None:
            raise PlacedError(("config",), block.config, "is that of a data set on the hub; add hub, or leave it out")
        return None
    if block.files is not None:
        raise PlacedError(("hub",), hub.repository, "but files are given beside it; leave one of them out")
    if block.config is None:
        return hub
    if hub.config is not None:
        raise PlacedError(("config",), block.config, "but hub.config is given beside it; leave one of them out")
    return hub.model_copy(update={"config": block.config})


def _splits_of(block: TaskBlock) -> dict[str, Any]:
    """``train``, ``dev`` and ``test`` of a Task, as far as the block names them."""
    hub = hub_of(block)
    if block.files is not None:
        return dict(_splits(block.files, ("files",)))
    if hub is None or hub.splits is None:
        return {}
    place, names = ("hub", "splits"), list(hub.splits.values())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PlacedError(place, twice, "is given for two splits; scores on rows that were trained on say nothing")
    # The splits of the task have the data set's names for them.
    roles = _splits(hub.splits, place)
    named = {role: tuple(hub.splits[split] for split in splits) for role, splits in roles.items()}
    return {"train": hub.splits[TRAIN], **named}


def _splits(given: Mapping[str, str], place: Place) -> dict[str, tuple[str, ...]]:
    """The names in ``given`` of dev and of test splits. ``place`` is that of ``given`` in the block."""
    if TRAIN not in given:
        raise PlacedError((*place, TRAIN), ABSENT, "missing, and needed")
    splits: dict[str, tuple[str, ...]] = {"dev": (), "test": ()}
    for name in given:
        kind = {"validation": "dev", "test": "test"}.get(name.partition("_")[0])
        if kind is not None:
            splits[kind] = (*splits[kind], name)
        elif name != TRAIN:
            problem = "is no split; name it train, validation or test, or let it begin with validation_ or test_"
            raise PlacedError((*place, name), ABSENT, problem)
    return splits


def _described(block: TaskBlock, splits: Mapping[str, Any]) -> Task:
    if block.text is None and block.image is None:
        raise PlacedError(
            ("text",), ABSENT, "missing, and needed: the column of text, or the two columns of a pair, or image"
        )
    if block.kind == "tokens":
        _check_tags(block)
    scored = block.regression or block.kind == "embedding"
    if (block.labels is None) != scored:
        raise PlacedError((), ABSENT, f"{block.name} needs exactly one of labels and regression: true")
    metrics: tuple[Metric, ...] = block.metric or _default_metrics(block, scored)
    if block.text is not None and block.image is not None:
        raise PlacedError(("image",), block.image, "but text is given beside it; leave one of them out")
    if block.channels is not None and block.image is None:
        raise PlacedError(("channels",), block.channels, "is of images, and none are given; leave it out, or add image")
    columns: dict[str, object] = {"text": block.text}
    if block.image is not None:
        columns = {"image": block.image, "channels": block.channels or 3}
    keys = {"name": block.name, **columns, "label": block.label, "labels": block.labels, "metrics": metrics}
    unit: dict[str, object] = {"unit": "word"} if block.kind == "tokens" else {}
    unit |= _scheme_of(block)
    try:
        return Task.model_validate({**keys, **splits, **unit})
    except ValidationError as error:
        found = failed_check(error)
        place = ("metric",) if found.place == ("metrics",) else found.place
        raise PlacedError(place, ABSENT, found.problem) from error


def _scheme_of(block: TaskBlock) -> dict[str, object]:
    """The scheme of a task's tags as a field of ``Task``, where the block gives one. Raises PlacedError for a task
    whose words have no labels."""
    if block.scheme is None:
        return {}
    if block.kind != "tokens" and (block.name not in BUILT_IN or BUILT_IN[block.name].unit != "word"):
        raise PlacedError(("scheme",), block.scheme, "is of tags of words; add kind: tokens, or leave it out")
    return {"scheme": block.scheme}


def _check_tags(block: TaskBlock) -> None:
    """Raise PlacedError for a task with labels on words that has no tag set."""
    if block.regression:
        raise PlacedError(("regression",), True, "but of the kind tokens each word has a label; leave it out")
    if block.labels is None:
        raise PlacedError(("labels",), ABSENT, "missing, and needed: the tags, such as [O, B-PER, I-PER]")
    try:
        check_tag_set(block.labels)
    except ValueError as error:
        place, problem = split_field(str(error))
        raise PlacedError(place or ("labels",), ABSENT, problem) from error


def _default_metrics(block: TaskBlock, scored: bool) -> tuple[Metric, ...]:
    if block.kind == "embedding":
        return ("pearson", "spearman")
    if block.kind == "tokens":
        return TOKEN_METRICS
    return ("pearson",) if scored else ("accuracy",)


def data_of(data: Data, block: TaskBlock, task: Task) -> Data:
    """The data settings of one task, with the source that is its default. PlacedError where the source lacks it."""
    if block.files is not None or block.hub is not None:
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
        raise PlacedError(
            place, source, f"has no {task.name}, a task of your own; give it files or hub, or name a folder"
        )
    if source == "hub":
        try:
            hub_set(task.name)
        except ValueError as error:
            raise PlacedError(place, source, split_field(str(error))[1].removeprefix("hub ")) from error
