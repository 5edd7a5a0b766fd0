"""What a store will hold and how large it will be, before anything runs. Needs the standard library only."""

from typing import Literal

ITEM_BYTES = {"float16": 2, "float32": 4, "int8": 1}


def chosen_layers(layers: Literal["all"] | tuple[int, ...], depth: int) -> tuple[int, ...]:
    """0 (the embeddings) to ``depth``, or those that are named. ValueError for one that the teacher lacks."""
    if layers == "all":
        return tuple(range(depth + 1))
    wrong = [layer for layer in layers if not 0 <= layer <= depth]
    if wrong:
        raise ValueError(f"store.layers: the teacher has no layer {wrong[0]}; it has 0 (embeddings) to {depth}")
    return layers


def row_bytes(layers: int, width: int, outputs: int, precision: str, pooling: str = "mean") -> int:
    """Bytes of one row of pooled states before compression: key, logits, states."""
    vectors = layers * (2 if pooling == "both" else 1)
    return 16 + 4 * outputs + vectors * width * ITEM_BYTES[precision]


def tokens_row_bytes(layers: int, width: int, length: int, precision: str) -> int:
    """Bytes of one row of ``length`` positions before compression: key, length, every position's states."""
    return 20 + layers * length * width * ITEM_BYTES[precision]


def attention_row_bytes(layers: int, heads: int, length: int, precision: str) -> int:
    """Bytes of one row's attention maps before compression: key, length, [heads, length, length] a layer."""
    return 20 + layers * heads * length**2 * ITEM_BYTES[precision]
