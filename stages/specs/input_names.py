"""Names of inputs that a stage has several of: ``outputs/0``, ``outputs/1`` ... Needs the standard library only."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Input = TypeVar("Input")

OUTPUTS = "outputs/"
"""Prefix of the stores of several teachers."""

CANDIDATE_OUTPUTS = "candidate_outputs/"
"""Prefix of the stores of the same teachers over candidates."""

CALIBRATION = "calibration/"
"""Prefix of the calibrations of the same teachers."""

LIVE = "live/"
"""Prefix of the models of the same teachers, for a method that runs them."""
TOKENS, SCORES = "tokens", "scores"
"""The stores of a teacher's states and attention scores at every token."""

MEMBERS = "members/"
"""Prefix of the evaluations of an ensemble's members."""

RATES = "rate/"
"""Prefix of the trainings of a sweep over learning rates."""


def numbered(prefix: str, inputs: Iterable[Input]) -> dict[str, Input]:
    """``{prefix}0``, ``{prefix}1`` ... -> the inputs in their order."""
    return {f"{prefix}{number}": given for number, given in enumerate(inputs)}


def in_order(prefix: str, inputs: Mapping[str, Input]) -> list[Input]:
    """The inputs whose names are ``prefix`` and a number, in the order of their numbers."""
    found = {int(name.removeprefix(prefix)): given for name, given in inputs.items() if name.startswith(prefix)}
    return [found[number] for number in sorted(found)]


def one_or_numbered(prefix: str, inputs: Sequence[Input]) -> dict[str, Input]:
    """A single input under ``prefix`` without its slash, several as in ``numbered``."""
    return {prefix.rstrip("/"): inputs[0]} if len(inputs) == 1 else numbered(prefix, inputs)


def one_or_in_order(prefix: str, inputs: Mapping[str, Input]) -> list[Input]:
    """The inputs that ``one_or_numbered`` named, in their order."""
    return in_order(prefix, inputs) or [inputs[prefix.rstrip("/")]]
