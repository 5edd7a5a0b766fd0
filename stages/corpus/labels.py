"""Parses the labels of a split: values of the data -> class numbers or scores, None where a label is not public."""

import math
from collections.abc import Sequence

from stages.specs.tasks import Task

NOT_PUBLIC = -1
"""The value for withheld labels in data sets of the hub."""


def parse_labels(values: Sequence[object], task: Task, origin: str) -> list[int | float | None]:
    """The label of each row. ValueError with ``origin``, row (from 1) and value for a value that is no label.

    Classification: a value is the number of a label or its name. If all names are whole numbers themselves, numbers are
    taken as names. -1, null and the empty string mean that the label is not public.

    Regression: a value is a finite number. Null, NaN and the empty string mean that the score is not public; so does -1
    where all rows of the split have it (as in the test split of STS-B), since elsewhere it may be a score.
    """
    parse = _score if task.regression else _number
    parsed: dict[tuple[type, object], int | float | None] = {}
    labels: list[int | float | None] = []
    for row, value in enumerate(values, start=1):
        kind = (type(value), value if isinstance(value, str | int | float) else None)
        if kind not in parsed:
            try:
                parsed[kind] = parse(value, task)
            except ValueError as error:
                raise ValueError(f"{origin}: row {row}, column {task.label}: {error}") from error
        labels.append(parsed[kind])
    if task.regression and all(label == NOT_PUBLIC for label in labels):
        return [None] * len(labels)
    return labels


def _number(value: object, task: Task) -> int | None:
    assert task.labels is not None
    if isinstance(value, str) and value in task.labels:
        return task.labels.index(value)
    number = _whole(value)
    named_by_numbers = all(_is_whole(name) for name in task.labels)
    if named_by_numbers and str(number) in task.labels:
        return task.labels.index(str(number))
    if (number is None and value in (None, "")) or number == NOT_PUBLIC or _is_nan(value):
        return None
    if number is not None and not named_by_numbers and 0 <= number < len(task.labels):
        return number
    names = ", ".join(task.labels)
    numbers = "" if named_by_numbers else f"0 to {len(task.labels) - 1} or "
    raise ValueError(f"{value!r} is no label of {task.name}; use {numbers}a name ({names}), or -1 for not public")


def _whole(value: object) -> int | None:
    """The value as a whole number, for 3, True, 3.0 and "3"; None where it is not one."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        try:
            return _whole(float(value))
        except ValueError:
            return None
    return None


def _is_whole(name: str) -> bool:
    return _whole(name) is not None and str(_whole(name)) == name


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _score(value: object, task: Task) -> float | None:
    if value in (None, "") or _is_nan(value):
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) else math.inf
    except ValueError:
        number = math.inf
    if math.isfinite(number):
        return number
    raise ValueError(f"{value!r} is no score for {task.name}; use a finite number, or leave it out for not public")
