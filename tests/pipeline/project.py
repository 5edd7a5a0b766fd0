"""A project to test with: a tiny recipe with its storage, the command line on it, and inputs that can be planned over
but not run."""

import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.artifacts.provenance import hardware
from pipeline.artifacts.record import Record, describe
from pipeline.cli.main import main
from pipeline.graph.build import build_graph
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins
from pipeline.graph.fingerprint import plain
from pipeline.graph.nodes import Graph, Node
from pipeline.recipe import Recipe, parse
from pipeline.storage import Storage
from pipeline.storage.directory import Directory

ROOT = Path(__file__).parents[2]
ONE_THREAD = {stage: {"cpus_per_worker": 1} for stage in ("finetune", "teach", "distil", "evaluate")}

Tree = dict[str, object]


@dataclass(frozen=True)
class CommandResult:
    """A command's exit code and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Project:
    """A recipe file with its storage beside it."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def storage(self) -> Path:
        return self.folder / "runs"

    def __call__(self, command: str, *options: str) -> CommandResult:
        """Run a command on this recipe and this storage, in this process."""
        return stillhouse(command, str(self.recipe), "--storage", str(self.storage), *options)

    def plan(self, *options: str) -> dict[str, dict[str, object]]:
        """Node name -> its step of ``plan --format json``."""
        result = self("plan", "--format", "json", *options)
        assert result.code == 0, result.err
        return {step["node"]: step for step in json.loads(result.out)}

    def rows(self, *options: str) -> list[dict[str, object]]:
        result = self("report", "--format", "json", *options)
        assert result.code == 0, result.err
        rows: list[dict[str, object]] = json.loads(result.out)
        return rows

    def records(self) -> dict[str, Tree]:
        """Node name -> its record, as JSON."""
        documents = [json.loads(path.read_text("utf-8")) for path in self.storage.glob("*/*/record.json")]
        return {document["name"]: document for document in documents}

    def artifact(self, name: str) -> Path:
        """The directory of a node's artifact."""
        record = self.records()[name]
        return self.storage / str(record["stage"]) / str(record["key"]) / str(record["attempt"])

    def unfinished(self) -> list[str]:
        """The keys of attempts that are neither committed nor removed."""
        return sorted(path.name for path in (self.storage / ".work").glob("*"))


def write_project(folder: Path, assets: Path, /, **changes: object) -> Project:
    """Write the tiny recipe, with ``changes``, into ``folder``; its model and data are those of ``assets``."""
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(folder)
    project.recipe.write_text(yaml.safe_dump(tiny_recipe(assets, **changes)), "utf-8")
    return project


def tiny_recipe(assets: Path, /, **changes: object) -> Tree:
    recipe = {
        "name": "tiny",
        "data": {"source": str(assets / "data"), "holdout_min_rows": 0},  # a tenth of so few rows is held out
        "task": {"name": "tiny", "text": "sentence", "labels": ["bad", "good"]},
        "teacher": {"model": str(assets / "model"), "finetune": {"epochs": 6, "learning_rate": 1.0e-2}},
        "student": {"label": "two", "cut": {"of": "teacher", "layers": [1, 3]}},
        "method": ["no-kd", "vanilla-kd"],
        "train": {"epochs": 2, "learning_rate": 5.0e-3, "max_length": 16},
        "resources": ONE_THREAD,
    }
    return {**recipe, **changes}


# --- the command line -----------------------------------------------------------------------------


def stillhouse(*arguments: str) -> CommandResult:
    """``stillhouse ARGUMENTS`` in this process, as ``python -m pipeline`` would run it."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch("sys.argv", ["-", *arguments]):
            main()
    except SystemExit as exit:
        return CommandResult(int(exit.code or 0), out.getvalue(), err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, before)


def start(*arguments: str, cwd: Path | None = None, **more: str) -> "subprocess.Popen[str]":
    """``stillhouse ARGUMENTS`` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def result_of(process: "subprocess.Popen[str]", seconds: float = 240) -> CommandResult:
    out, err = process.communicate(timeout=seconds)
    return CommandResult(process.returncode, out, err)


# --- inputs and artifacts without any work --------------------------------------------------------


def write_plannable_assets(folder: Path, tasks: tuple[str, ...] = ("tiny",)) -> Path:
    """A model and data that are enough to plan over: the layers are of one number each, so no stage can load them."""
    write_plannable_model(folder / "model")
    for task in tasks:
        (folder / "data" / task).mkdir(parents=True)
        for split, rows in (("train", 90), ("validation", 30)):
            texts = {name: [f"{split} {row} {name}" for row in range(rows)] for name in ("sentence", "second")}
            table = pa.table({**texts, "label": [0, 1] * (rows // 2)})
            pq.write_table(table, folder / "data" / task / f"{split}.parquet")
    return folder


def write_plannable_model(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True)
    shape: Tree = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 4}
    described = {**shape, **config}
    (folder / "config.json").write_text(json.dumps(described), "utf-8")
    layers = range(int(str(described.get("n_layers", described["num_hidden_layers"]))))
    write_weights(folder / "model.safetensors", {f"encoder.layers.{layer}.weight": (1,) for layer in layers})
    (folder / "tokenizer.json").write_text('{"vocab": {}}', "utf-8")
    return folder


def change_weights(folder: Path) -> None:
    """Change the last byte of a model's weights; their names and shapes stay."""
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def write_weights(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write a safetensors file of int8 tensors with these shapes by name; all values are 0."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape)
        entries[name] = {"dtype": "I8", "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(end))


def graph_of(assets: Path, storage: Path | Storage, /, **changes: object) -> tuple[Recipe, Graph]:
    recipe = parse(tiny_recipe(assets, **changes))
    return recipe, graph_in(storage, recipe)


def graph_in(storage: Path | Storage, recipe: Recipe) -> Graph:
    there = as_storage(storage)
    digests = Digests.load(there.local / ".identity" / "digests.json")
    return build_graph(recipe, digests, Pins.load(there, refresh=False))


def as_storage(storage: Path | Storage) -> Storage:
    """A storage as it is; a path as the storage in that directory."""
    return Directory(storage) if isinstance(storage, Path) else storage


def write_artifact(storage: Path | Storage, node: Node, content: str = "content", **facts: object) -> Record:
    """Commit an artifact for a node, one text file, without running its stage. ``facts`` are further ones."""
    home = as_storage(storage).local / node.spec.stage / node.key
    (home / "0001").mkdir(parents=True)
    (home / "0001" / "result.txt").write_text(content, "utf-8")
    record = record_for(node, home / "0001", **facts)
    (home / "record.json").write_text(json.dumps(asdict(record)), "utf-8")
    return record


def record_for(node: Node, out: Path, **facts: object) -> Record:
    return Record(
        stage=node.spec.stage,
        version=node.spec.version,
        key=node.key,
        name=node.name,
        recipe="tiny",
        spec=plain(node.spec),
        inputs=node.input_keys,
        attempt=out.name,
        files=describe(out),
        facts={"rows": 10, **facts},
        code="0",
        workers=1,
        threads=1,
        seconds=1.5,
        committed="2026-01-01T00:00:00+00:00",
        hardware=hardware(),
    )


def nodes_by_name(graph: Graph) -> Mapping[str, Node]:
    return {node.name: node for node in graph.nodes}
