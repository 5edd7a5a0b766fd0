"""A method in the file -> a point on the axes: the named method's, with what the file changes on each axis."""

from typing import Any

from pydantic import ValidationError

from pipeline.errors import nearest
from pipeline.methods import BY_NAME
from pipeline.recipe.errors import ABSENT, PlacedError, complaint, failed_check, placed, unknown
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
    with placed():
        return Method.model_validate(axes)


def _moved(axis: str, given: Loose | None, start: Frozen) -> Frozen:
    """The point on one axis. A block of another kind than ``start`` replaces it; of the same or no kind, changes it."""
    if given is None:
        return start
    block = {"kind": given} if isinstance(given, str) else given
    was = start.model_dump()
    kind, known = block.get("kind", was["kind"]), kinds(axis)
    if not isinstance(kind, str) or kind not in known:
        raise PlacedError((axis, "kind"), kind, f"is no kind of {axis}; {nearest(str(kind), known)}")
    for name in block:
        if name not in known[kind].model_fields:
            raise PlacedError((axis, name), ABSENT, f"unknown key of {kind}; {nearest(name, known[kind].model_fields)}")
    whole = {**(was if kind == was["kind"] else {}), **_with_tuples(block)}
    try:
        return known[kind].model_validate(whole, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error" and not first["loc"]:
            raise failed_check(error).below((axis,)) from error
        raise complaint(error, whole).below((axis,)) from error


def _with_tuples(value: Any) -> Any:
    """Lists of a file as tuples, which strict validation wants."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
