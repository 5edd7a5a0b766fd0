"""The base of all specs: frozen models, with the stage and version that they identify."""

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Frozen(BaseModel):
    """A value: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def repeated(items: Sequence[Item]) -> list[Item]:
    """Those that stood before, in their order."""
    return [item for place, item in enumerate(items) if item in items[:place]]


class Spec(Frozen):
    """A stage's spec. ``stage`` names the module and the function in ``stages/`` that carries it out."""

    stage: ClassVar[str]
    version: ClassVar[int]
