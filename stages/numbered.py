"""Inputs of a stage that are several of a kind: ``outputs/0``, ``outputs/1`` ... Needs the standard library only."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

Input = TypeVar("Input")

OUTPUTS = "outputs/"
"""The stores of several teachers."""

CANDIDATE_OUTPUTS = "candidate_outputs/"
"""The stores of the same teachers over candidates."""

MEMBERS = "members/"
"""What was left of the members of an ensemble."""


def numbered(prefix: str, inputs: Iterable[Input]) -> dict[str, Input]:
    """Each under its number, from 0."""
    return {f"{prefix}{number}": one for number, one in enumerate(inputs)}


def in_order(prefix: str, inputs: Mapping[str, Input]) -> list[Input]:
    """Those that are numbered so, by their numbers."""
    found = {int(name.removeprefix(prefix)): one for name, one in inputs.items() if name.startswith(prefix)}
    return [found[number] for number in sorted(found)]
