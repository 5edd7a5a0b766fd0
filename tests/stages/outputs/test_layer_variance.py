"""Which layers tell rows apart: over a whole store, and from some rows of what is mapped for training."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from training_setups import InMemoryColumns

from stages.cache_folder import CacheFolder
from stages.corpus.reader import read_split
from stages.outputs.layer_variance import DEAD, SAMPLED_ROWS, dead_layers, layer_variances, variance
from stages.outputs.layout import read_store
from stages.outputs.node_cache import decode

GENERATOR = np.random.Generator(np.random.PCG64(11))


def states(rows: int, share: float, width: int = 16) -> np.ndarray:
    """[rows, width] float32 whose between-row variance is ``share`` of their energy."""
    noise = GENERATOR.normal(size=(rows, width))
    noise = (noise - noise.mean(0)) / np.sqrt(np.square(noise - noise.mean(0)).sum(1).mean())
    middle = np.full(width, 1 / np.sqrt(width))
    return (10 * (np.sqrt(share) * noise + np.sqrt(1 - share) * middle)).astype(np.float32)


@dataclass(frozen=True)
class Counting(InMemoryColumns):
    """Columns that remember which rows were asked for."""

    asked: list[np.ndarray] = field(default_factory=list)

    def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
        self.asked.append(rows)
        return super().gather(name, rows)


@pytest.mark.parametrize("share", [1e-6, 1e-4, 0.33, 0.57])
def test_the_share_is_that_of_variance_between_rows_in_energy(share: float) -> None:
    columns = InMemoryColumns({"hidden_03": states(800, share)})
    assert variance(columns, "hidden_03", 800) == pytest.approx(share, rel=1e-3)


def test_mapped_columns_give_what_the_whole_store_gives(tiny_corpus: Path, store: Path, tmp_path: Path) -> None:
    names = {state.layer: state.column for state in read_store(store).layout.states}
    keys = list(dict.fromkeys(read_split(tiny_corpus, "train").keys))
    mapped = decode(store, list(names.values()), keys, CacheFolder(tmp_path), lambda _: None)
    whole = layer_variances(store)
    for name in names.values():
        assert variance(mapped, name, len(keys)) == pytest.approx(whole[name].variance, rel=1e-6)
    alive = [layer for layer, name in names.items() if whole[name].variance >= DEAD]
    assert len(alive) > 1 and dead_layers(mapped, names, len(keys)) == tuple(sorted(set(names) - set(alive)))


def test_layers_in_which_rows_look_alike_are_named_in_the_order_of_the_map() -> None:
    shares = {0: 0.0, 1: 1e-4, 2: 5e-3, 3: 0.4, 12: 9e-5}
    columns = InMemoryColumns({f"hidden_{layer:02d}": states(500, share) for layer, share in shares.items()})
    names = {layer: f"hidden_{layer:02d}" for layer in (12, 3, 2, 1, 0)}
    assert dead_layers(columns, names, 500) == (12, 1, 0)
    assert dead_layers(columns, {}, 500) == ()


def test_float16_as_a_store_keeps_it_makes_no_dead_layer_live() -> None:
    columns = InMemoryColumns({"hidden_00": states(500, 1e-6).astype(np.float16)})
    assert dead_layers(columns, {0: "hidden_00"}, 500) == (0,)


def test_a_column_of_zeros_is_dead_and_one_row_is_not_judged() -> None:
    columns = InMemoryColumns({"hidden_00": np.zeros((9, 4), np.float32)})
    assert dead_layers(columns, {0: "hidden_00"}, 9) == (0,)
    assert dead_layers(columns, {0: "hidden_00"}, 1) == ()


def test_a_long_column_is_judged_by_a_thousand_rows_of_all_its_parts() -> None:
    rows = 12_345
    columns = Counting({"hidden_00": states(rows, 0.4), "hidden_01": states(rows, 1e-4)})
    assert dead_layers(columns, {0: "hidden_00", 1: "hidden_01"}, rows) == (1,)
    assert variance(columns, "hidden_00", rows) == pytest.approx(0.4, rel=0.05)
    for asked in columns.asked:
        assert len(set(asked.tolist())) == SAMPLED_ROWS == 1000
        assert (asked[0], asked[-1]) == (0, rows - 1) and np.diff(asked).max() <= 13
