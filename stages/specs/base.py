"""The base classes of specs, and the rules for what identifies an artifact.

A spec holds everything that determines the result of a stage, and nothing else: no path, host, number of workers or
threads, and no date. Its canonical form, the stage's name and version, and the keys of its inputs are the key of the
artifact.

- A field that stands at its default is left out of the canonical form. So a field that is added, with a default that
  means "as before", changes no key.
- A default that changes, or a meaning that changes, raises ``version``. Tests pin each stage's output, and every
  default, to the version.
- A record keeps the whole spec, with the defaults at the time. Where a recorded field differs from the requested spec,
  the artifact is not reused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Frozen(BaseModel):
    """An immutable model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(Frozen):
    """A stage's spec. ``stage`` is the stage's name in keys and on disk; ``stages/table.py`` has its function."""

    stage: ClassVar[str]
    version: ClassVar[int]

    def as_built(self, _facts: Mapping[str, object], /) -> Self:
        """The spec that the record of an artifact with these facts keeps: the strictest that the artifact serves, if
        the spec has a field marked with ``FurtherFiles`` that turned out not to matter."""
        return self


@dataclass(frozen=True, slots=True)
class FurtherFiles:
    """Marks a field that only decides which additional files an artifact holds, all other files being the same; or
    whether the artifact is built at all.

    Such a field is not part of the key. ``includes`` maps a recorded value to the requested values for which the
    artifact can be reused: one that keeps every epoch has all that a request for the best epoch needs, but not the
    other way round.
    """

    includes: Mapping[str, tuple[str, ...]]


def repeated(items: Sequence[Item]) -> list[Item]:
    """The items that are equal to an earlier item, in their order."""
    return [item for place, item in enumerate(items) if item in items[:place]]
