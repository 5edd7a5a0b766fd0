"""The values of a trial: a path within the method's block -> the value there."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.recipe import SearchSettings, ValueList, ValueRange
from pipeline.recipe.errors import abbreviated

Values = Mapping[str, Any]

DIGITS = 3
"""Significant digits of a drawn number of a range that spans at least a factor of two."""


@dataclass(frozen=True, slots=True)
class TrialBefore:
    """The values of an earlier trial, and how good it was, higher being better; None for one that failed."""

    values: Values
    goodness: float | None


def identity(values: Values) -> str:
    """A text that is the same for equal values, as 1 and 1.0 are."""
    return json.dumps({path: _plain(value) for path, value in values.items()}, sort_keys=True)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def lies_within(search: SearchSettings, values: Values) -> bool:
    """Whether a search could propose these values."""
    return values.keys() == search.vary.keys() and all(
        _holds(search.vary[path], value) for path, value in values.items()
    )


def _holds(among: ValueList | ValueRange, value: Any) -> bool:
    if isinstance(among, ValueList):
        return value in among.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return among.low <= value <= among.high and (not among.whole or float(value).is_integer())


def text_of(values: Values) -> str:
    """``train.learning_rate 0.0002, data.k 8``."""
    return ", ".join(f"{path} {value_text(value)}" for path, value in values.items())


def value_text(value: Any) -> str:
    """A value as it is written in a recipe, cut to 60 characters."""
    return abbreviated(value)


def rounded(values: ValueRange, number: float) -> float:
    """A number within a range of fractions, rounded so that at least a thousand steps remain and a recipe can be read:
    with ``log`` to some digits, else to some decimals."""
    if values.log:
        digits = DIGITS + max(0, -math.floor(math.log10(values.high / values.low - 1)))
        found = float(f"{number:.{digits}g}")
    else:
        found = round(number, max(0, DIGITS - math.floor(math.log10(values.high - values.low))))
    return min(max(found, float(values.low)), float(values.high))
