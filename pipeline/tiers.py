"""How large a teacher-output store will be, and would be in each of the forms that a recipe can choose."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from stages.cost import row_bytes
from stages.specs import TeachSpec

SHARD_ROWS = 4096
SCALE_BYTES = 4

TIERS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "store.precision: float32": {"precision": "float32"},
        "store.precision: float16": {"precision": "float16"},
        "store.precision: int8": {"precision": "int8"},
        "store.pooling: mean": {"pooling": "mean"},
        "store.pooling: cls": {"pooling": "cls"},
        "store.layers: []": {"layers": ()},
    }
)
"""What to type in a recipe -> what that changes in the spec of its stores. Without layers, logits alone are kept."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What a row of a store says: the states of ``layers`` layers, each ``width`` wide, and ``outputs`` logits."""

    layers: int
    width: int
    outputs: int


def store_bytes(spec: TeachSpec, columns: Columns, rows: int) -> int:
    """Bytes of a store before compression: its rows, and for int8 a scale for each dimension of each shard."""
    each = row_bytes(columns.layers, columns.width, columns.outputs, spec.precision, spec.pooling)
    if str(spec.precision) != "int8":
        return rows * each
    values = each - row_bytes(0, columns.width, columns.outputs, spec.precision, spec.pooling)
    return rows * each + -(-rows // SHARD_ROWS) * values * SCALE_BYTES


def in_tier(spec: TeachSpec, columns: Columns, tier: str) -> tuple[TeachSpec, Columns]:
    """The same store in another tier."""
    changed = spec.model_copy(update=dict(TIERS[tier]))
    return changed, columns if changed.layers else replace(columns, layers=0)
