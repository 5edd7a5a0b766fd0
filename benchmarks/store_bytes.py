"""The size of the store at each precision, and the rounding error that comes with it.

Bytes are those of all files of the store, divided by those of the same keys, logits and states in raw float32. Noise is
the mean squared error of a layer against float32, divided by the variance between rows, which is what a student can
learn from. The noise of float16 is shown beside that of int8.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import summary
from benchmarks.scene import Scene
from stages.corpus.rowset import distinct
from stages.outputs.layout import read_store
from stages.outputs.parquet import uncompressed_bytes
from stages.outputs.reader import read_columns
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

POOLINGS = ("mean", "cls")
GOALS = {("float16", "mean"): Goal(most=0.46), ("int8", "mean"): Goal(most=0.26)}


def measure(scene: Scene) -> list[Finding]:
    """Each is measured once, since nothing here depends on time."""
    findings = []
    for pooling in POOLINGS:
        single = written(scene, pooling, "float32")
        for precision in ("float16", "int8"):
            store = written(scene, pooling, precision)
            ratio = size(store) / uncompressed_bytes(store, read_store(store))[1]
            noise = noises(scene, single, store)
            worst = max(noise, key=lambda column: noise[column])
            dead = sorted({state.column for state in read_store(store).layout.states} - set(noise))
            name = f"store bytes / raw float32: {precision}, {pooling}"
            note = f"noise / between-row variance at most {noise[worst]:.1e} ({worst})"
            note += f"; all rows alike in {', '.join(dead)}" if dead else ""
            findings.append(Finding(name, summary([ratio]), GOALS.get((precision, pooling)), note=note, once=True))
            if precision == "int8":
                goal = Goal(most=1e-3) if pooling == "mean" else None
                about = ", ".join(f"{value:.1e}" for value in noise.values())
                line = Finding(
                    f"noise / between-row variance: int8, {pooling}, worst layer",
                    summary([noise[worst]]),
                    goal,
                    note=f"by layer: {about}",
                    once=True,
                )
                findings.append(line)
    return findings


def written(scene: Scene, pooling: str, precision: str) -> Path:
    """Write a store of the scene's teacher over its rows; its folder."""
    out = scene.root / f"bytes-{pooling}-{precision}"
    out.mkdir()
    spec = TeachSpec.model_validate({"pooling": pooling, "precision": precision})
    teach(spec, {"corpus": scene.corpus, "model": scene.teacher}, out, scene.on())
    return out


def size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.iterdir())


def noises(scene: Scene, single: Path, store: Path) -> dict[str, float]:
    """Column -> mean squared error / between-row variance, without columns in which all rows are equal."""
    columns = [state.column for state in read_store(store).layout.states]
    keys = distinct([scene.train]).row_keys
    exact, found = (read_columns(directory, columns, keys) for directory in (single, store))
    noise = {}
    for column in columns:
        values = exact[column].astype(np.float64)
        error = np.square(found[column] - values).sum(1).mean()
        between = np.square(values - values.mean(0)).sum(1).mean()
        if between > 0:
            noise[column] = float(error / between)
    return noise


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["store_bytes", *sys.argv[1:]]))
