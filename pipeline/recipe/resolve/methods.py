"""A method's block -> a Method: that of the name in ``use``, with the changes of the block on each axis."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.errors import nearest
from pipeline.methods import BY_NAME, EMBEDDING_BY_NAME
from pipeline.recipe.errors import ABSENT, PlacedError, failed_check, first_error, placed, unknown
from pipeline.recipe.schema.learners import AxesBlock
from pipeline.recipe.schema.scalars import Loose, kinds
from stages.specs.axes.targets import Hard, Smoothed
from stages.specs.axes.training import OnePhase
from stages.specs.base import Frozen
from stages.specs.method import Method


def method_of(block: AxesBlock) -> Method:
    """The method that the block describes. A PlacedError's place is within the block."""
    if block.use in EMBEDDING_BY_NAME:
        problem = "is for tasks of sentence embeddings; give the task kind: embedding, or use another method"
        raise PlacedError(("use",), block.use, problem)
    if block.use not in BY_NAME:
        raise unknown(("use",), block.use, "method", list(BY_NAME))
    start = BY_NAME[block.use].method
    axes = {
        axis: value_of_kind(axis, kinds(axis), getattr(block, axis), getattr(start, axis))
        for axis in Method.model_fields
    }
    if block.training is None and isinstance(axes["targets"], Hard | Smoothed) and isinstance(start.training, OnePhase):
        # The settings of the named method are those of the logits' term, which these targets do not have.
        axes["training"] = OnePhase()
    with placed():
        return Method.model_validate(axes)


def value_of_kind(axis: str, known: Mapping[str, type[Frozen]], changes: Loose | None, start: Frozen) -> Frozen:
    """The value under the key ``axis``, of one of the ``known`` kinds. A block of another kind than ``start`` replaces
    it; one of the same kind, or without a kind, changes some of its settings. A PlacedError's place begins with
    ``axis``."""
    if changes is None:
        return start
    block = {"kind": changes} if isinstance(changes, str) else changes
    was = start.model_dump()
    kind = block.get("kind", was["kind"])
    if not isinstance(kind, str) or kind not in known:
        raise PlacedError((axis, "kind"), kind, f"is no kind of {axis}; {nearest(str(kind), known)}")
    if kind == "none" and "weight" in block:
        problem = "but structure is none, which matches no layers; give a kind, such as attend, or leave weight out"
        raise PlacedError((axis, "weight"), block["weight"], problem)
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
        raise first_error(error, whole).below((axis,)) from error


def _with_tuples(value: Any) -> Any:
    """The value with tuples in place of lists, as strict validation requires."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
