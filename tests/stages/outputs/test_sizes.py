"""What a store will hold, before it is made."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from stages.outputs.layout import Layout, shard_name
from stages.outputs.parquet import write_shard
from stages.outputs.sizes import chosen_layers, row_bytes


def test_all_layers_are_the_embeddings_and_every_encoder_layer() -> None:
    assert chosen_layers("all", 6) == (0, 1, 2, 3, 4, 5, 6)
    assert chosen_layers((6, 0), 6) == (6, 0)


@pytest.mark.parametrize("wrong", [7, -1])
def test_a_layer_that_the_teacher_lacks_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"^store\.layers: the teacher has no layer {wrong}; it has 0 .* to 6$"):
        chosen_layers((0, wrong), 6)


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_a_rows_bytes_are_those_that_its_columns_hold(precision: str, tmp_path: Path) -> None:
    """Noise does not compress: the file is the raw bytes, give or take the encoding of the layout."""
    rows, width, layers = 2000, 24, (0, 2, 3)
    layout = Layout("pooled", layers, width, 1, 3, "mean", precision)
    generator = np.random.Generator(np.random.PCG64(0))
    kind = "float32" if precision == "int8" else precision
    states = {s.column: generator.normal(size=(rows, width)).astype(kind) for s in layout.states}
    keys = [generator.bytes(16) for _ in range(rows)]
    file = write_shard(tmp_path, 0, layout, keys, generator.normal(size=(rows, 3)).astype(np.float32), states)
    table = pq.read_table(tmp_path / shard_name(0))
    raw = sum(table[state.column].combine_chunks().flatten().nbytes for state in layout.states)
    raw += table["logits"].combine_chunks().flatten().nbytes + 16 * rows
    assert row_bytes(len(layers), width, 3, precision) * rows == raw
    assert file.bytes < 1.1 * raw


def test_the_tables_of_a_large_teacher_on_mnli_come_to_the_sizes_in_the_documentation() -> None:
    """RoBERTa-large, all layers, pooled, 392,702 rows: about 20 GB."""
    assert row_bytes(25, 1024, 3, "float16") * 392_702 == pytest.approx(20e9, rel=0.02)


def test_int8_is_a_byte_a_value_and_both_poolings_are_two_states_a_layer() -> None:
    assert row_bytes(3, 8, 2, "int8") == 16 + 2 * 4 + 3 * 8
    assert row_bytes(3, 8, 2, "float16", "both") == 16 + 2 * 4 + 2 * 3 * 8 * 2
