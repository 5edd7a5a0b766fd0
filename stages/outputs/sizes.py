"""The layers, rows and bytes that a store will have, known before anything runs."""

from dataclasses import dataclass
from typing import Literal

from stages.specs.teacher import ATTENTION_PARTS

SHARD_BYTES = 64 << 20
SHARD_ROWS = 4096
ITEM_BYTES = {"float16": 2, "float32": 4, "int8": 1}


def chosen_layers(layers: Literal["all"] | tuple[int, ...], depth: int, part: str = "pooled") -> tuple[int, ...]:
    """The numbers of the layers that a store keeps: for "all", 0 (the embeddings, which have no attention) to
    ``depth``; otherwise the ``layers`` themselves. Raises ValueError for one that the teacher lacks."""
    first = 1 if part in ATTENTION_PARTS else 0
    if layers == "all":
        return tuple(range(first, depth + 1))
    wrong = [layer for layer in layers if not first <= layer <= depth]
    if wrong:
        key = {"pooled": "layers", "scores": "attention"}.get(part, part)
        lowest = "1" if first else "0 (embeddings)"
        raise ValueError(f"store.{key}: the teacher has no layer {wrong[0]}; it has {lowest} to {depth}")
    return layers


def present_layers(layers: Literal["all"] | tuple[int, ...], depth: int) -> Literal["all"] | tuple[int, ...]:
    """Those of the ``layers`` of one model that another one of this depth has, too; "all" are all of either."""
    return layers if layers == "all" else tuple(layer for layer in layers if layer <= depth)


def row_bytes(layers: int, width: int, outputs: int, precision: str, pooling: str = "mean") -> int:
    """Bytes of one row of pooled states before compression: key, logits (0 ``outputs`` for none), states."""
    vectors = layers * (2 if pooling == "both" else 1)
    return 16 + 4 * outputs + vectors * width * ITEM_BYTES[precision]


def rows_a_shard(row_bytes: int) -> int:
    """How many rows a shard holds: at most 4,096, and about 64 MiB before compression. An interrupted run loses no more
    than the shards that were being computed."""
    return max(1, min(SHARD_ROWS, SHARD_BYTES // row_bytes))


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a teacher's outputs for a row: ``layers`` layers, ``width`` wide, with ``heads`` attention heads;
    ``outputs`` logits, 0 for none; ``length`` tokens, an upper bound where the row is not known yet."""

    layers: int
    width: int
    outputs: int
    heads: int = 0
    length: int = 1

    def row_bytes(self, part: str, precision: str, pooling: str) -> int:
        """Bytes of a row in that part of a store, before compression. ``tokens`` has key, length, and [length, width]
        for each layer; ``scores`` and ``attention`` have key, length, and [heads, length, length] for each layer."""
        match part:
            case "pooled":
                return row_bytes(self.layers, self.width, self.outputs, precision, pooling)
            case "tokens":
                return 20 + self.layers * self.length * self.width * ITEM_BYTES[precision]
            case _:
                return 20 + self.layers * self.heads * self.length**2 * ITEM_BYTES[precision]
