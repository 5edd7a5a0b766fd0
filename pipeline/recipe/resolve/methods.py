"""A method in the file -> a point on the axes: the named method's, with what the file changes on each axis."""

import json

from pydantic import ValidationError

from pipeline.errors import nearest
from pipeline.methods import BY_NAME
from pipeline.recipe.errors import ABSENT, PlacedError, complaint, unknown
from pipeline.recipe.schema.learners import PointBlock
from pipeline.recipe.schema.scalars import Loose, kinds
from stages.specs.base import Frozen
from stages.specs.method import Hard, Method, OnePhase, Smoothed


def point(block: PointBlock) -> Method:
    """The method that the block means. A PlacedError's place is within the block."""
    if block.use not in BY_NAME:
        raise unknown(("use",), block.use, "method", list(BY_NAME))
    start = BY_NAME[block.use].method
    axes = {axis: _moved(axis, getattr(block, axis), getattr(start, axis)) for axis in Method.model_fields}
    if block.training is None and isinstance(axes["targets"], Hard | Smoothed) and isinstance(start.training, OnePhase):
        # The name's settings are for the teacher that the recipe has taken away.
        axes["training"] = OnePhase()
    try:
        return Method.model_validate(axes)
    except ValidationError as error:
        place, right = split(str(error.errors()[0]["ctx"]["error"]))
        raise PlacedError(place, ABSENT, right) from error


def split(message: str) -> tuple[tuple[str, ...], str]:
    """``field: what is wrong`` -> the field's place, and what is wrong."""
    field, colon, right = message.partition(": ")
    return ((field,), right) if colon and field.isidentifier() else ((), message)


def _moved(axis: str, given: Loose | None, start: Frozen) -> Frozen:
    """The point on one axis. A block of another kind than ``start`` replaces it; of the same or no kind, changes it."""
    if given is None:
        return start
    block = {"kind": given} if isinstance(given, str) else given
    was = start.model_dump()
    kind, known = block.get("kind", was["kind"]), kinds(axis)
    if kind not in known:
        raise PlacedError((axis, "kind"), kind, f"is no kind of {axis}; {nearest(str(kind), known)}")
    for name in block:
        if name not in known[kind].model_fields:
            raise PlacedError((axis, name), ABSENT, f"unknown key of {kind}; {nearest(name, known[kind].model_fields)}")
    whole = {**(was if kind == was["kind"] else {}), **block}
    try:
        return known[kind].model_validate_json(json.dumps(whole), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error" and not first["loc"]:
            place, right = split(str(first["ctx"]["error"]))
            raise PlacedError((axis, *place), ABSENT, right) from error
        raise complaint(error, whole).below((axis,)) from error
