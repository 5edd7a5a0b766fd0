"""Prove that a change of the code left every student as it was: train a fixed set, print each weights file's sha256.

    python -m benchmarks.proof [--code CHECKOUT] [--out FILE]

``CHECKOUT`` is a directory that holds the packages (this repository, where left out). Run it on the commit before a
change and on the commit after it, on one machine, and compare the two listings: equal lines mean equal weights, bit for
bit. A checkout is only given the recipes below, so that one script serves both commits. The data is the
project's own generated task, the teacher the packaged MiniLM; nothing is downloaded.

Students of one worker are trained inline. Two workers need Ray: gradients of two workers are added, and the sum of two
numbers does not depend on their order, so that the weights are exact there, too.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

THREADS = "1"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
GROUND: Mapping[str, Any] = {
    "task": "reviews",
    "data": {"generated": {"train": 260, "validation": 64, "test": 64}, "holdout_min_rows": 0},
    "teacher": {"model": MINILM, "finetune": {"epochs": 2, "learning_rate": 2.0e-4, "keep": "epochs"}},
    "student": {"label": "two", "cut": {"of": "teacher", "layers": [3, 6]}},
    "train": {"epochs": 3, "learning_rate": 6.0e-4, "max_length": 32, "batch_size": 16},
    "equal_steps": False,
}
ONE_WORKER: Mapping[str, Any] = {
    **GROUND,
    "name": "proof",
    "bank": {"generated": {"rows": 300}},
    "candidates": {"drawn": {"by": "transfer"}},
    "models": {"assistant": {"cut": {"of": "teacher", "layers": [2, 4, 6]}, "method": "vanilla-kd"}},
    "method": [
        "no-kd",
        "label-smoothing",
        "virtual-teacher",
        "vanilla-kd",
        "annealing-kd",
        {"use": "takd", "taught_by": "assistant"},
        "self-kd",
        {"use": "continuation-kd", "training": {"max_temperature": 3}},
        {"use": "pro-kd", "taught_by": "teacher:all"},
        {"use": "pkd", "structure": {"weight": 500.0}},
        {"use": "ckd", "structure": {"weight": 2.333}},
        {"use": "ckd-po", "structure": {"weight": 2.333}},
        {"use": "alp", "structure": {"weight": 25.0}},
        {"use": "rail-kd", "structure": {"weight": 0.5}},
        {"use": "random-map", "structure": {"weight": 500.0}},
        {"use": "relational-kd", "structure": {"weight": 1.0}},
        {"use": "universal-kd", "structure": {"weight": 1.0}},
        {"use": "knn", "data": {"k": 3}},
        {"use": "knn", "label": "transfer", "data": {"k": 2}, "candidates": "drawn"},
        {"use": "minimax-knn", "data": {"k": 4, "keep": 2}},
        {
            "use": "annealing-kd",
            "label": "annealing-alp-minimax",
            "structure": {"kind": "attend"},
            "data": {"kind": "minimax-knn", "k": 4, "keep": 1, "every": 1},
        },
        {"use": "vanilla-kd", "label": "vanilla-micro-batch", "train": {"micro_batch": 5}},
    ],
}
TWO_WORKERS: Mapping[str, Any] = {
    **GROUND,
    "name": "proof-two-workers",
    "method": [
        "no-kd",
        "vanilla-kd",
        {"use": "pkd", "structure": {"weight": 500.0}},
        {"use": "relational-kd", "structure": {"weight": 1.0}},
    ],
    "resources": {"distil": {"workers": 2, "cpus_per_worker": 1}},
}
ENVIRONMENT = {
    "OMP_NUM_THREADS": THREADS,
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


def main(arguments: Sequence[str]) -> int:
    """0 when every student was trained."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--code", type=Path, default=Path(__file__).resolve().parent.parent, help="a checkout")
    parser.add_argument("--out", type=Path, help="write the listing there, too")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stillhouse-proof-") as folder:
        lines = [
            *trained(ONE_WORKER, Path(folder) / "one", given.code.resolve(), "--inline"),
            *trained(TWO_WORKERS, Path(folder) / "two", given.code.resolve()),
        ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


def trained(recipe: Mapping[str, Any], folder: Path, code: Path, *options: str) -> list[str]:
    """``sha256  recipe  node  file`` for each weights file that the recipe's trainings leave, sorted by node.

    Raises CalledProcessError when the run fails.
    """
    folder.mkdir()
    path, storage = folder / "recipe.yaml", folder / "storage"
    path.write_text(json.dumps(recipe), "utf-8")  # JSON is YAML
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(code), "STILLHOUSE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "pipeline", "run", str(path), "--storage", str(storage), *options]
    subprocess.run(command, cwd=code, env=environment, check=True, stdout=sys.stderr)
    found = []
    for record in sorted(storage.glob("distil/*/record.json")):
        document = json.loads(record.read_text("utf-8"))
        for weights in sorted(record.parent.glob(f"{document['attempt']}/**/*.safetensors")):
            place = weights.relative_to(record.parent / document["attempt"]).parent
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            found.append((recipe["name"], document["name"], str(place), digest))
    return [f"{digest}  {name}  {node}  {place}" for name, node, place, digest in sorted(found)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
