"""Parses labels: values of the data -> class numbers or scores, None where a label is not public."""

import math
from collections.abc import Sequence

import pyarrow as pa

from stages.specs.tasks import Task

NOT_PUBLIC = -1
"""The value for withheld labels in data sets of the hub."""
LARGEST_SCORE = 1e12
"""Scores are kept as float32, and their squares are summed in it."""
MOST_SHOWN = 80
"""Characters of a value in a message."""
MOST_REMEMBERED = 10_000
"""Distinct values of a column that are parsed once; a class column has fewer, and scores may have any number."""


def label_type(task: Task) -> pa.DataType:
    """The Arrow type of the labels of a task: numbers, or for labels of words a list of numbers for each row."""
    kind = pa.type_for_alias(task.kind.label_type)
    return pa.list_(kind) if task.kind.has_entries else kind


class LabelParser:
    """Parses the values of one task's label column.

    Classification: a value is the number of a label or its name. If all names are whole numbers themselves, numbers are
    taken as names. -1, null and the empty string mean that the label is not public.

    Regression: a value is a finite number. Null, NaN and the empty string mean that the score is not public; so does -1
    where all rows of the split have it (as in the test split of STS-B), since elsewhere it may be a score. That is for
    the reader of a whole split to see (``all_hidden``).
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parse = _score if task.regression else _number
        self._parsed: dict[tuple[type, object], int | float | None] = {}

    def __call__(self, value: object) -> int | float | None:
        """The class number or the score; None where it is not public. ValueError with the value and the remedy."""
        kind = (type(value), value if isinstance(value, str | int | float) else None)
        if kind not in self._parsed:
            parsed = self._parse(value, self._task)
            if len(self._parsed) >= MOST_REMEMBERED:
                return parsed
            self._parsed[kind] = parsed
        return self._parsed[kind]


def shown(value: object) -> str:
    """A value of the data in a message: as Python writes it, cut after ``MOST_SHOWN`` characters."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def all_hidden(labels: Sequence[object], task: Task) -> bool:
    """Whether the labels of a whole split mean that none is public: those of a regression that are all -1. A single -1
    may be a score."""
    return task.regression and all(label == NOT_PUBLIC for label in labels)


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
    meant = {name.casefold(): name for name in task.labels}.get(str(value).strip().casefold())
    if meant is not None:
        raise ValueError(f"{shown(value)} is no label of {task.name}; did you mean {meant}?")
    names = ", ".join(task.labels)
    numbers = "" if named_by_numbers else f"0 to {len(task.labels) - 1} or "
    raise ValueError(f"{shown(value)} is no label of {task.name}; use {numbers}a name ({names}), or -1 for not public")


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
    except (ValueError, OverflowError):
        number = math.inf
    if abs(number) <= LARGEST_SCORE and "_" not in str(value):
        return number
    bounds = f"use a number up to {LARGEST_SCORE:g}, or leave it out for not public"
    raise ValueError(f"{shown(value)} is no score for {task.name}; {bounds}")
