"""A teacher-output store of random numbers, and the arrays that it was written from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.outputs.layout import Layout, ShardFile, write_store
from stages.outputs.parquet import write_shard

GENERATOR = np.random.Generator(np.random.PCG64(9))
# Keys with zeros at their ends, which a fixed-width string type would lose.
KEYS = [bytes([number, *GENERATOR.bytes(13), 0, 0]) for number in range(30)]
LOGITS = GENERATOR.normal(size=(30, 3)).astype(np.float32)
STATES = {f"hidden_{layer:02d}": GENERATOR.normal(size=(30, 8)).astype(np.float32) for layer in (0, 2, 12)}
LAYOUT = Layout("pooled", (0, 2, 12), 8, 4, 3, "mean", "float16")
RULE = "tokenizer-16-1"


def kept(layout: Layout, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States in the type that ``write_shard`` takes."""
    return {
        name: values if layout.precision == "int8" else values.astype(layout.precision)
        for name, values in states.items()
    }


def write_noise(directory: Path, layout: Layout = LAYOUT, rows: range = range(30), size: int = 10) -> list[ShardFile]:
    """Write ``rows`` of the random numbers as a store, in shards of ``size`` rows."""
    directory.mkdir(exist_ok=True, parents=True)
    states = kept(layout, {state.column: STATES[state.column] for state in layout.states})
    files = []
    for number, start in enumerate(range(rows.start, rows.stop, size)):
        part = slice(start, min(start + size, rows.stop))
        own = {name: values[part] for name, values in states.items()}
        files.append(write_shard(directory, number, layout, KEYS[part], LOGITS[part], own))
    write_store(directory, layout, RULE, files)
    return files
