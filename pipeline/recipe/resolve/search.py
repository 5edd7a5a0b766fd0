"""The block ``search`` of a recipe file -> SearchSettings: names and seed filled in, values checked."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import nearest
from pipeline.recipe.errors import ABSENT, PlacedError, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import TaskRecipe
from pipeline.recipe.schema.search import SearchBlock
from pipeline.recipe.search_settings import SearchSettings, ValueList, ValueRange
from stages.specs.base import repeated

VARIABLE = ("train", "targets", "training", "data", "structure", "taught_by", "candidates", "generator")
"""The keys of a method's block that a search may vary, or vary keys of."""
FIXED: Mapping[str, str] = {
    "train.select": "trials are compared on the held-out slice; leave it out",
    "train.select_by": "trials are compared by one rule; leave it out",
    "rates": "a search compares learning rates itself; vary train.learning_rate",
}
"""Keys of a method's block that a search cannot vary, and why."""
RANGE = tuple(ValueRange.model_fields)


def search_of(block: SearchBlock, tasks: Sequence[TaskRecipe]) -> SearchSettings:
    """The search of a recipe with these tasks. A PlacedError's place is within the block."""
    known = {recipe.task.name: recipe for recipe in tasks}
    task = known[_chosen("task", block.task, list(known), "recipe")]
    name = task.task.name
    if task.kind == "embedding":
        problem = "is of the kind embedding, whose methods are not searched; name another task, or leave search out"
        raise PlacedError(("task",), name, problem)
    method = _chosen("method", block.method, [use.label for use in task.methods], f"task {name}")
    student = _chosen("student", block.student, [one.label for one in task.students], f"task {name}")
    _check_method(task, method)
    vary = FrozenMapping({path: _values(path, given) for path, given in _paths(block.vary)})
    found = SearchSettings(
        task=name,
        method=method,
        student=student,
        vary=vary,
        by=block.by,
        trials=block.trials,
        seed=_seed(block, task),
        parallel=block.parallel,
    )
    _check_grid(found)
    return found


def _chosen(key: str, given: str | None, known: Sequence[str], where: str) -> str:
    """The name that is given, or else the only one that is known."""
    if given is None:
        if len(known) > 1:
            problem = f"missing, and needed: the {where} has {len(known)} of them ({', '.join(known)}); name one"
            raise PlacedError((key,), ABSENT, problem)
        return known[0]
    if given not in known:
        raise unknown((key,), given, f"{key} of the {where}", known)
    return given


def _check_method(task: TaskRecipe, label: str) -> None:
    """Raise where the students of a method are not scored on held-out rows."""
    select = next(use.train.select for use in task.methods if use.label == label)
    if select == "dev":
        problem = (
            f"but its students are selected on dev (train.select: dev), whose rows are reported, and so would be the "
            f"best of the search; give {label} train: {{select: holdout}}"
        )
        raise PlacedError(("method",), label, problem)
    if task.data.holdout == 0:
        problem = "but data.holdout is 0, and trials are compared on what is held out; hold some out"
        raise PlacedError(("method",), label, problem)


def _seed(block: SearchBlock, task: TaskRecipe) -> int:
    seed = task.sweep_seed if block.seed is None else block.seed
    if seed in task.seeds:
        problem = "is one of seeds, whose students are reported; give a number that is none of them"
        raise PlacedError(("seed",), seed, problem)
    return seed


# --- what varies ----------------------------------------------------------------------------------


def _paths(vary: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The path of each key that varies, and its values. Blocks of keys are written out, so that ``--set`` reaches each:
    ``{train: {learning_rate: [...]}}`` is ``{train.learning_rate: [...]}``."""
    found: dict[str, Any] = {}
    for path, given in _leaves(vary, ""):
        if path in found:
            raise PlacedError(("vary", path), ABSENT, "is given twice, as one key and as blocks; keep one of them")
        found[path] = given
    for path in found:
        _check_path(path)
        if outer := next((other for other in found if path.startswith(f"{other}.")), None):
            raise PlacedError(("vary", path), ABSENT, f"lies within {outer}, which varies as a whole; keep one of them")
    yield from found.items()


def _leaves(block: Mapping[str, Any], start: str) -> Iterator[tuple[str, Any]]:
    for name, given in block.items():
        path = f"{start}{name}"
        if isinstance(given, Mapping) and given and not any(key in RANGE for key in given):
            yield from _leaves(given, f"{path}.")
        else:
            yield path, given


def _check_path(path: str) -> None:
    if path in FIXED:
        raise PlacedError(("vary", path), ABSENT, f"cannot vary: {FIXED[path]}")
    if path.partition(".")[0] not in VARIABLE or not all(path.split(".")):
        problem = f"is no key of a method that can vary, such as train.learning_rate; {nearest(path, VARIABLE)}"
        raise PlacedError(("vary", path), ABSENT, problem)


def _values(path: str, given: Any) -> ValueList | ValueRange:
    place = ("vary", path)
    if isinstance(given, Mapping):
        return _range(place, given)
    if not isinstance(given, list | tuple) or not given:
        raise PlacedError(place, given, "must be a list of values that is not empty, or a range {low: ..., high: ...}")
    for value in repeated(given):
        raise PlacedError(place, given, f"must have each value once, {value} is repeated")
    return ValueList(values=tuple(given))


def _range(place: tuple[str, ...], given: Mapping[str, Any]) -> ValueRange:
    for name in given:
        if name not in RANGE:
            raise PlacedError((*place, name), ABSENT, f"unknown key of a range; {nearest(name, RANGE)}")
    low, high = (_number((*place, name), given.get(name, ABSENT)) for name in ("low", "high"))
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise PlacedError((*place, "log"), log, "must be true or false")
    if not low < high:
        raise PlacedError(place, dict(given), "must have a low below its high")
    if log and low <= 0:
        raise PlacedError((*place, "low"), low, "must be above 0 with log: true")
    return ValueRange(low=low, high=high, log=log)


def _number(place: tuple[str, ...], value: Any) -> int | float:
    if value is ABSENT:
        raise PlacedError(place, ABSENT, "missing, and needed")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PlacedError(place, value, "must be a number")
    return value


def _check_grid(search: SearchSettings) -> None:
    if search.by != "grid":
        return
    for path, values in search.vary.items():
        if isinstance(values, ValueRange):
            text = {name: getattr(values, name) for name in ("low", "high")}
            raise PlacedError(
                ("vary", path), text, "but by: grid takes lists of values; give a list, or by: random or tpe"
            )
    count = search.combinations
    if count is not None and count > search.trials:
        problem = f"but the grid has {count} combinations; give trials: {count}, fewer values, or by: random"
        raise PlacedError(("trials",), search.trials, problem)
