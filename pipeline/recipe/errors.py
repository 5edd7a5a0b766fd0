"""Errors of a recipe in one line: the place in the file, the value there, and what would be right."""

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
    """An error at ``place`` in a recipe: the value there, or ABSENT to leave it out of the message, and ``problem``,
    which says what is wrong with it and what to write instead.

    Raised and caught while a recipe is read; users see its line as a RequestError.
    """

    def __init__(self, place: Sequence[str | int], value: object, problem: str) -> None:
        super().__init__(place, value, problem)
        self.place: Place = tuple(place)
        self.value = value
        self.problem = problem

    def below(self, place: Sequence[str | int]) -> "PlacedError":
        """The same error, when what was read is itself a part that lies at ``place`` in something larger."""
        return PlacedError((*place, *self.place), self.value, self.problem)

    def line(self) -> str:
        """``place: value, problem``; the comma only before a problem that reads on from the value."""
        where = ".".join(str(part) for part in self.place) or "recipe"
        if self.value is ABSENT:
            return one_line(f"{where}: {self.problem}")
        comma = "," if self.problem.startswith(_AFTER_A_COMMA) else ""
        return one_line(f"{where}: {abbreviated(self.value)}{comma} {self.problem}")


_AFTER_A_COMMA = ("must", "needs", "takes", "but")

_NEEDS_QUOTES = re.compile(r"[-+.]*[0-9][0-9._eE+-]*|true|false|null|~|", re.IGNORECASE)


def abbreviated(value: object) -> str:
    """A value as it is written in a recipe, on one line, cut to 60 characters."""
    bare = isinstance(value, str) and value.isprintable() and not _NEEDS_QUOTES.fullmatch(value)
    text = str(value) if bare else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_error(error: ValidationError, tree: object) -> PlacedError:
    """The first of pydantic's errors. Where a value may be of several kinds, what each of them would take.

    ``tree`` is what was validated.
    """
    found = [(_place(details, tree), details) for details in error.errors(include_url=False)]
    first = found[0][0]
    deepest = max((place for place, _ in found if place[: len(first)] == first), key=len)
    here = [details for place, details in found if place == deepest]
    problems = list(dict.fromkeys(_problem(details) for details in _closest(here)))
    return PlacedError(
        deepest, _value(here[0]), " or ".join((problems[0], *(r.removeprefix("must be ") for r in problems[1:])))
    )


def _closest(errors: Sequence[ErrorDetails]) -> Sequence[ErrorDetails]:
    """Of the errors about one value, the most specific: those about an item in it, and about a kind that it is of."""
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


def _problem(details: ErrorDetails) -> str:
    """The problem in our words, for the errors that a recipe can cause; in pydantic's own for any other."""
    ctx = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            return str(ctx["error"])
        case "literal_error":
            return f"must be {ctx['expected'].replace(chr(39), '')}"
        case "string_type" if isinstance(details["input"], int | float):
            return "must be a text in quotes"
        case kind if kind in _PROBLEMS:
            return _PROBLEMS[kind].format(**ctx)
        case _:
            return f"{details['msg'][0].lower()}{details['msg'][1:]}"


_PROBLEMS: Mapping[str, str] = {
    "missing": "missing, and needed",
    "unknown_key": "unknown key; {problem}",
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

_OTHER_KIND = {kind for kind in _PROBLEMS if kind.endswith("_type")} | {"literal_error", "int_from_float"}
"""Types of errors that mean only that a value is of another kind than the one that was tried."""


def split_field(message: str) -> tuple[tuple[str, ...], str]:
    """``field: what is wrong``, as the specs' own validators write it -> the field's place, and what is wrong."""
    field, colon, problem = message.partition(": ")
    return ((field,), problem) if colon and field.isidentifier() else ((), message)


def failed_check(error: ValidationError) -> PlacedError:
    """The failure of a spec's own validator, at the field that its message names."""
    place, problem = split_field(str(error.errors()[0]["ctx"]["error"]))
    return PlacedError(place, ABSENT, problem)


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
    """The error for a name that is not among ``known``. ``what`` is the kind of thing that it should name."""
    return PlacedError(
        place, name, f"is no {what}; {nearest(name, known)}" if known else f"is no {what}, there are none"
    )
