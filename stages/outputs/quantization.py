"""The tier int8: one byte a value, with a scale and an offset for each dimension of a column in a shard.

value = offset + scale * code, code from 0 to 254. The range is the dimension's own in the shard, so that a
dimension far from zero that hardly varies keeps its differences. The rounding error is at most half a scale, and
its variance scale^2 / 12. Codes are unsigned because Parquet keeps small integers in four bytes: split into
streams, three of them are zeros, which cost nothing once compressed.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

STEPS = 254


@dataclass(frozen=True, slots=True)
class Scales:
    """Scale and offset of each dimension: [width] each, float32."""

    scale: Floats
    offset: Floats


def quantise(values: Floats) -> tuple[Codes, Scales]:
    """``values`` [rows, width] -> codes of the same shape, and their scales."""
    low, high = values.min(0).astype(np.float32), values.max(0).astype(np.float32)
    scale = ((high.astype(np.float64) - low) / STEPS).astype(np.float32)
    # Where all rows are equal the scale is 0, and the offset alone is their value.
    codes = np.rint((values - low) / np.where(scale > 0, scale, 1))
    return np.clip(codes, 0, STEPS).astype(np.uint8), Scales(scale, low)


def dequantise(codes: Codes, scales: Scales) -> Floats:
    """The values that the codes stand for, [rows, width]."""
    return codes.astype(np.float32) * scales.scale + scales.offset
