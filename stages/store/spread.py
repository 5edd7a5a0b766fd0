"""How much each layer of a store says about a row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.store.layout import Store, read_store
from stages.store.shards import check_footer, float_pages


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
        check_footer(directory, shard)
        for page in float_pages(directory, shard.number, store.layout, column):
            values = page.astype(np.float64)
            total += values.sum(0)
            energies = np.square(values).sum(1)
            squares += float(energies.sum())
            norms += float(np.sqrt(energies).sum())
    energy = squares / store.rows
    between = energy - float(np.square(total / store.rows).sum())
    return Spread(norms / store.rows, max(0.0, between) / energy if energy else 0.0)
