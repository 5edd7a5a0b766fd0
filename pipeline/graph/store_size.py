"""The size of a teacher-output store, as the recipe has it and with other settings of precision, pooling and layers."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from stages.outputs.sizes import Extent, rows_a_shard
from stages.specs.teacher import TeachSpec

SCALE_BYTES = 8

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
"""A setting in a recipe -> the fields that it changes in the specs of stores. Without layers, only logits are kept."""


def store_bytes(spec: TeachSpec, extent: Extent, rows: int) -> int:
    """Bytes of a store before compression: its rows, and for int8 a scale and an offset for each dimension of each
    shard."""
    each = extent.row_bytes(spec.part, spec.precision, spec.pooling)
    if spec.precision != "int8":
        return rows * each
    columns = extent.layers * (2 if spec.part == "pooled" and spec.pooling == "both" else 1)
    shards = -(-rows // rows_a_shard(each))
    return rows * each + shards * columns * extent.width * SCALE_BYTES


def in_tier(spec: TeachSpec, extent: Extent, tier: str) -> tuple[TeachSpec, Extent]:
    """The spec and extent of a store with a setting of ``TIERS``; unchanged if that does not apply to such a store."""
    change = TIERS[tier]
    if (spec.part != "pooled" and "precision" not in change) or (spec.part == "attention" and "int8" in tier):
        return spec, extent
    changed = spec.model_copy(update=dict(change))
    return changed, extent if changed.layers else replace(extent, layers=0)
