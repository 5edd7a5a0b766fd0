"""What specs are made of."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Frozen(BaseModel):
    """A value: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def repeated(items: Sequence[Item]) -> list[Item]:
    """Those that stood before, in their order."""
    return [item for place, item in enumerate(items) if item in items[:place]]
