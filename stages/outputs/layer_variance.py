"""How much each layer of a store says about a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.outputs.layout import Store, read_store
from stages.outputs.node_cache import Columns
from stages.outputs.parquet import check_footer, float_batches

DEAD = 1e-3
"""Between-row variance, as a share of energy, below which a layer tells rows apart no more. The first token's states of
a fine-tuned MiniLM had 1e-4 or less in layers 0 to 4, its mean-pooled states 0.33 to 0.57: this lies between, where
nothing was seen, and nearer to the dead."""

LOOKED_AT = 1_000
"""Rows from which a mapped column is judged: the share of a living layer is then known to a few hundredths of itself,
and a dead one lies a factor of ten below the bound."""


@dataclass(frozen=True, slots=True)
class LayerVariance:
    """``variance`` is the variance between rows as a share of the mean squared norm: near 0, all rows look alike,
    and matching the layer teaches nothing."""

    norm: float
    variance: float


def layer_variances(directory: Path) -> dict[str, LayerVariance]:
    """Mean norm and between-row variance of every column of pooled states, batch by batch, in float64."""
    store = read_store(directory)
    if store.layout.part != "pooled":
        return {}
    return {state.column: _spread(directory, store, state.column) for state in store.layout.states}


def _spread(directory: Path, store: Store, column: str) -> LayerVariance:
    total, squares, norms = np.zeros(store.layout.width), 0.0, 0.0
    for shard in store.shards:
        check_footer(directory, shard)
        for batch in float_batches(directory, shard.number, store.layout, column):
            values = batch.astype(np.float64)
            total += values.sum(0)
            energies = np.square(values).sum(1)
            squares += float(energies.sum())
            norms += float(np.sqrt(energies).sum())
    energy = squares / store.rows
    between = energy - float(np.square(total / store.rows).sum())
    return LayerVariance(norms / store.rows, max(0.0, between) / energy if energy else 0.0)


def variance(columns: Columns, name: str, rows: int) -> float:
    """The between-row variance of a column over mean squared norm, from at most ``LOOKED_AT`` of its ``rows``, evenly
    spaced. 0 for a column of zeros."""
    looked = np.unique(np.linspace(0, rows - 1, min(rows, LOOKED_AT)).astype(np.int64))
    values = columns.gather(name, looked).astype(np.float64)
    energy = float(np.square(values).sum(1).mean())
    return float(np.square(values - values.mean(0)).sum(1).mean()) / energy if energy else 0.0


def dead_layers(columns: Columns, names: Mapping[int, str], rows: int) -> tuple[int, ...]:
    """Those of the layers in ``names`` (layer -> its column) in which the ``rows`` look alike: matching them teaches
    nothing. None where there are fewer than two rows to compare."""
    return tuple(layer for layer, name in names.items() if rows > 1 and variance(columns, name, rows) < DEAD)
