"""What is wrong with a recipe, in one line: where in the file, the value there, and what would be right."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import nearest
from pipeline.recipe.yaml import child, one_line

Place = tuple[str | int, ...]

ABSENT = object()
"""Stands for a value that is not there."""


class PlacedError(Exception):
    """Something is wrong at ``place``. Raised and caught while a recipe is read; users see a RequestError."""

    def __init__(self, place: Sequence[str | int], value: object, right: str) -> None:
        super().__init__(place, value, right)
        self.place: Place = tuple(place)
        self.value = value
        self.right = right

    def below(self, place: Sequence[str | int]) -> "PlacedError":
        """The same complaint about a part of something larger, which lies at ``place``."""
        return PlacedError((*place, *self.place), self.value, self.right)

    def line(self) -> str:
        """``place: value, what would be right``."""
        where = ".".join(str(part) for part in self.place) or "recipe"
        if self.value is ABSENT:
            return one_line(f"{where}: {self.right}")
        comma = "," if self.right.startswith(_AFTER_A_COMMA) else ""
        return one_line(f"{where}: {shown(self.value)}{comma} {self.right}")


_AFTER_A_COMMA = ("must", "needs", "takes", "but")

_NEEDS_QUOTES = re.compile(r"[-+.]*[0-9][0-9._eE+-]*|true|false|null|~|", re.IGNORECASE)


def shown(value: object) -> str:
    """A value as one would write it, on one line and not too long."""
    bare = isinstance(value, str) and value.isprintable() and not _NEEDS_QUOTES.fullmatch(value)
    text = str(value) if bare else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def complaint(error: ValidationError, tree: object) -> PlacedError:
    """The first thing that is wrong. Where a value might be of several kinds, what any of them would take."""
    found = [(_place(details, tree), details) for details in error.errors(include_url=False)]
    first = found[0][0]
    deepest = max((place for place, _ in found if place[: len(first)] == first), key=len)
    here = [details for place, details in found if place == deepest]
    rights = list(dict.fromkeys(_right(details) for details in _closest(here)))
    return PlacedError(
        deepest, _value(here[0]), " or ".join((rights[0], *(r.removeprefix("must be ") for r in rights[1:])))
    )


def _closest(errors: Sequence[ErrorDetails]) -> Sequence[ErrorDetails]:
    """Of errors about one value, those that see most of it: of an item, and of a kind that the value is of."""
    deepest = max(len(details["loc"]) for details in errors)
    inner = [details for details in errors if len(details["loc"]) == deepest]
    return [details for details in inner if details["type"] not in _OTHER_KIND] or inner


def _place(details: ErrorDetails, tree: object) -> Place:
    """The error's place in the file. Parts that pydantic adds, for members of unions and lists of one, are left out."""
    place: list[str | int] = []
    for part in details["loc"]:
        below, here = child(tree, part)
        if here:
            place.append(part)
            tree = below
    if details["type"] == "missing":
        place.append(details["loc"][-1])
    if details["type"] == "unknown_key":
        place.append(details["ctx"]["key"])
    return tuple(place)


def _value(details: ErrorDetails) -> object:
    return ABSENT if details["type"] in ("missing", "unknown_key") else details["input"]


def _right(details: ErrorDetails) -> str:
    """What would be right, for the errors that a recipe can bring about; pydantic's own words for any other."""
    ctx = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            return str(ctx["error"])
        case "literal_error":
            return f"must be {ctx['expected'].replace(chr(39), '')}"
        case "string_type" if isinstance(details["input"], int | float):
            return "must be a text in quotes"
        case kind if kind in _RIGHT:
            return _RIGHT[kind].format(**ctx)
        case _:
            return f"{details['msg'][0].lower()}{details['msg'][1:]}"


_RIGHT: Mapping[str, str] = {
    "missing": "missing, and needed",
    "unknown_key": "unknown key; {right}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:.10g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "takes at most {max_length} letters",
    "string_pattern_mismatch": "must be letters, digits, _ and -, and . in labels, and begin with a letter or digit",
}

_OTHER_KIND = {kind for kind in _RIGHT if kind.endswith("_type")} | {"literal_error", "int_from_float"}
"""Errors that say no more than that a value is of another kind."""


def split_field(message: str) -> tuple[tuple[str, ...], str]:
    """``field: what is wrong``, as the specs' own validators write it -> the field's place, and what is wrong."""
    field, colon, right = message.partition(": ")
    return ((field,), right) if colon and field.isidentifier() else ((), message)


def failed_check(error: ValidationError) -> PlacedError:
    """The failure of a spec's own validator, at the field that its message names."""
    place, right = split_field(str(error.errors()[0]["ctx"]["error"]))
    return PlacedError(place, ABSENT, right)


@contextmanager
def placed(*place: str | int) -> Iterator[None]:
    """PlacedErrors raised inside get their place below ``place``; the failure of a spec's own validator becomes one."""
    try:
        yield
    except PlacedError as error:
        raise error.below(place) from error.__cause__
    except ValidationError as error:
        raise failed_check(error).below(place) from error


def unknown(place: Sequence[str | int], name: str, what: str, known: Sequence[str]) -> PlacedError:
    """A name that means nothing here."""
    return PlacedError(
        place, name, f"is no {what}; {nearest(name, known)}" if known else f"is no {what}, there are none"
    )
