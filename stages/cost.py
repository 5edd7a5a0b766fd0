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
    """Bytes of one row before compression: key, logits, states (two a layer where both poolings are kept)."""
    states = 2 * layers if pooling == "both" else layers
    return 16 + 4 * outputs + states * width * ITEM_BYTES[precision]
