"""How much each layer of a store says about a row."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.store.layout import Layout, Store, read_store
from stages.store.shards import SCALED, read_scales, state_pages
from stages.store.tiers import dequantise


@dataclass(frozen=True, slots=True)
class Spread:
    """``variance`` is the variance between rows as a share of the mean squared norm: near 0, all rows look alike,
    and matching the layer teaches nothing."""

    norm: float
    variance: float


def spreads(directory: Path) -> dict[str, Spread]:
    """Mean norm and between-row variance of every column of pooled states, page by page, in float64."""
    store = read_store(directory)
    if store.layout.part != "pooled":
        return {}
    return {state.column: _spread(directory, store, state.column) for state in store.layout.states}


def _spread(directory: Path, store: Store, column: str) -> Spread:
    total, squares, norms = np.zeros(store.layout.width), 0.0, 0.0
    for shard in store.shards:
        for values in _pages(directory, shard.number, store.layout, column):
            total += values.sum(0)
            energies = np.square(values).sum(1)
            squares += float(energies.sum())
            norms += float(np.sqrt(energies).sum())
    energy = squares / store.rows
    between = energy - float(np.square(total / store.rows).sum())
    return Spread(norms / store.rows, max(0.0, between) / energy if energy else 0.0)


def _pages(directory: Path, number: int, layout: Layout, column: str) -> Iterator[npt.NDArray[np.float64]]:
    """A column as float64. Unlike training's reader, this one needs no torch: showing a store is to be quick."""
    scales = read_scales(directory, number, [column])[column] if layout.precision == SCALED else None
    for page in state_pages(directory, number, layout, column):
        yield (page if scales is None else dequantise(page, scales)).astype(np.float64)
