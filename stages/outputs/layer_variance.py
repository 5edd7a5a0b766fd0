"""The variance between rows of each layer of a store: how much its states distinguish rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.outputs.layout import Store, read_store
from stages.outputs.node_cache import Columns
from stages.outputs.parquet import check_footer, float_batches

DEAD = 1e-3
"""Between-row variance, as a share of the mean squared norm, below which a layer does not distinguish rows. The first
token's states of a fine-tuned MiniLM had 1e-4 or less in layers 0 to 4, its mean-pooled states 0.33 to 0.57; no layer
was observed between, and the bound lies nearer to the lower group."""

SAMPLED_ROWS = 1_000
"""Rows from which the variance of a mapped column is estimated. That is accurate to a few hundredths for a layer that
distinguishes rows; one that does not lies a factor of ten below the bound."""


@dataclass(frozen=True, slots=True)
class LayerVariance:
    """``norm`` is the mean norm of a row. ``variance`` is the variance between rows as a share of the mean squared
    norm: near 0, all rows are alike, and a student that matches the layer learns nothing."""

    norm: float
    variance: float


def layer_variances(directory: Path) -> dict[str, LayerVariance]:
    """Mean norm and between-row variance of every column of pooled states, batch by batch, in float64."""
    store = read_store(directory)
    if store.layout.part != "pooled":
        return {}
    return {state.column: _column_variance(directory, store, state.column) for state in store.layout.states}


def _column_variance(directory: Path, store: Store, column: str) -> LayerVariance:
    total, squares, norms = np.zeros(store.layout.width_of(column)), 0.0, 0.0
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


def evenly_spaced(rows: int, most: int) -> npt.NDArray[np.int64]:
    """At most ``most`` of the numbers from 0 to ``rows`` - 1, ascending, the first and the last among them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def variance_share(states: npt.NDArray[np.generic]) -> float:
    """The variance between the rows of [rows, width] as a share of their mean squared norm, from 0 (all alike, or all
    zeros) to 1, in float64."""
    values = states.astype(np.float64)
    energy = float(np.square(values).sum(1).mean())
    return float(np.square(values - values.mean(0)).sum(1).mean()) / energy if energy else 0.0


def variance(columns: Columns, name: str, rows: int) -> float:
    """The ``variance_share`` of a column, from at most ``SAMPLED_ROWS`` of its ``rows``."""
    return variance_share(columns.gather(name, evenly_spaced(rows, SAMPLED_ROWS)))


def dead_layers(columns: Columns, names: Mapping[int, str], rows: int) -> tuple[int, ...]:
    """The layers, among those in ``names`` (layer -> its column), in which all ``rows`` are alike, so that a student
    that matches them learns nothing. () where there are fewer than two rows to compare."""
    return tuple(layer for layer, name in names.items() if rows > 1 and variance(columns, name, rows) < DEAD)
