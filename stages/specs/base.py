"""What every spec is made of: immutable models, the stage and version they identify, and what is no identity.

A spec holds all that makes a stage's result what it is, and nothing else: no path, host, worker count, thread count or
date. Its canonical form, the stage's name and version, and the keys of its inputs are the key of the artifact.

- A field that stands at its default is left out of the canonical form. So a field that is added, with a default that
  means "as before", changes no key.
- A default that changes, or a meaning that changes, raises ``version``. Tests pin each stage's output, and every
  default, to the version.
- A record keeps the spec whole, with the defaults of its day. Where a recorded field differs from the request, the
  artifact is not reused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Frozen(BaseModel):
    """An immutable model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(Frozen):
    """A stage's spec. ``stage`` is the stage's name in keys and on disk; ``stages/table.py`` has its function."""

    stage: ClassVar[str]
    version: ClassVar[int]


@dataclass(frozen=True, slots=True)
class FurtherFiles:
    """Marks a field that decides only which further files an artifact holds, and changes none of the others.

    Such a field is no part of a key. ``includes`` maps a recorded value to the requested values that its files serve:
    an artifact that keeps every epoch serves a request for the best one, and not the other way round.
    """

    includes: Mapping[str, tuple[str, ...]]


def repeated(items: Sequence[Item]) -> list[Item]:
    """The items that equal an earlier one, in their order."""
    return [item for place, item in enumerate(items) if item in items[:place]]
