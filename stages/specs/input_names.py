"""Inputs of a stage that are several of a kind: ``outputs/0``, ``outputs/1`` ... Needs the standard library only."""

from collections.abc import Iterable, Mapping, Sequence
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


def one_or_numbered(prefix: str, inputs: Sequence[Input]) -> dict[str, Input]:
    """One alone under the prefix without its slash; several each under its number."""
    return {prefix.rstrip("/"): inputs[0]} if len(inputs) == 1 else numbered(prefix, inputs)


def one_or_in_order(prefix: str, inputs: Mapping[str, Input]) -> list[Input]:
    """What ``one_or_numbered`` left."""
    return in_order(prefix, inputs) or [inputs[prefix.rstrip("/")]]
