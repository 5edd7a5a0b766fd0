"""Writes ``kept/<format>``: a tiny store of each kind and a record, in today's formats, with the numbers that a reader
must find. Run once for each new format, from the repository's root; what is committed is never written again:

    PYTHONPATH=.:tests/pipeline python tests/stages/outputs/write_kept.py
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from project import record_for

from pipeline.graph.nodes import ExternalInput, Node
from stages.corpus.row_key import row_key
from stages.outputs.layout import FORMAT, Layout, write_store
from stages.outputs.parquet import Array, write_shard
from stages.outputs.reader import read_columns
from stages.specs.teacher import TeachSpec

KEPT = Path(__file__).parent / "kept" / str(FORMAT)
TEXTS = ["A fine day.", "", "Zwölf Boxkämpfer", "two\nlines", "fine", "a fine day."]
ROWS = [(0, 4), (4, 6)]
LENGTHS = np.array([3, 2, 4, 3, 2, 3], np.int32)
TOKENISATION = "0123456789abcdef-16-1-2"
WIDTH, HEADS, OUTPUTS = 4, 2, 3
GENERATOR = np.random.Generator(np.random.PCG64(1))


def numbers(*shape: int) -> Array:
    """Multiples of 1/8 between -4 and 4, which every number type holds."""
    return (GENERATOR.integers(-32, 33, shape) / 8).astype(np.float32)


def write(name: str, layout: Layout, heads: Array, states: dict[str, list[Array]]) -> None:
    """Write a store, and the values of each row beside it. ``states`` has an array for each row."""
    folder, keys = KEPT / name, [row_key([text]) for text in TEXTS]
    folder.mkdir(parents=True)
    files = []
    for number, (start, end) in enumerate(ROWS):
        part = {column: np.concatenate(rows[start:end]) for column, rows in states.items()}
        typed = {
            column: values if layout.precision == "int8" else values.astype(layout.precision)
            for column, values in part.items()
        }
        files.append(write_shard(folder, number, layout, keys[start:end], heads[start:end], typed))
    write_store(folder, layout, TOKENISATION, files)
    values = {column: [row.tolist() for row in rows] for column, rows in states.items()}
    if layout.part == "pooled":
        values = {column: read.tolist() for column, read in read_columns(folder, list(states), keys).items()}
    heading = "logits" if layout.part == "pooled" else "length"
    expected = {"texts": TEXTS, "row_keys": [key.hex() for key in keys], heading: heads.tolist(), **values}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")


def main() -> None:
    logits = numbers(len(TEXTS), OUTPUTS)
    for precision in ("float16", "float32", "int8"):
        layout = Layout("pooled", (0, 2), WIDTH, HEADS, OUTPUTS, "both", precision)
        states = {state.column: list(numbers(len(TEXTS), 1, WIDTH)) for state in layout.states}
        write(f"pooled-{precision}", layout, logits, states)
    tokens = Layout("tokens", (0, 2), WIDTH, HEADS, OUTPUTS, "", "float16")
    write("tokens", tokens, LENGTHS, {state.column: [numbers(n, WIDTH) for n in LENGTHS] for state in tokens.states})
    attention = Layout("attention", (1,), WIDTH, HEADS, OUTPUTS, "", "float16")
    maps = {state.column: [numbers(HEADS * n * n) for n in LENGTHS] for state in attention.states}
    write("attention", attention, LENGTHS, maps)
    model = ExternalInput("model:0123", Path("model"), "a model")
    node = Node("teach@tiny", "teach", "tiny", TeachSpec(), {"model": model})
    record = record_for(node, KEPT / "tokens", rows={"train": 6})
    document = {**asdict(record), "hardware": {"host": "kept", "processor": "kept", "cores": 2, "gpus": []}}
    (KEPT / "record.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
