"""``stillhouse show``: print an artifact's record, inputs, files and first rows."""

import json
from collections.abc import Iterator
from contextlib import suppress
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.locate_inputs import input_path
from pipeline.artifacts.record import Record, fetch_artifact, find, missing
from pipeline.artifacts.search import locate
from pipeline.cli.models.errors import show_errors
from pipeline.errors import RequestError, refused
from pipeline.storage import Storage
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, TransferSpec
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import GENERATED_ROWS, DistilSpec, describe_start
from stages.specs.teacher import QUARANTINED, CalibrateSpec, ProbeSpec, TeachSpec

FIRST_ROWS = 3


CANDIDATE_STAGES = (NeighboursSpec.stage, RewriteSpec.stage, TransferSpec.stage, RerankSpec.stage)
"""Stages whose artifact is a candidate table."""


def show_artifact(target: str, storage: Storage, console: Console, recipe: str | None = None) -> None:
    """Print the artifact that ``target`` names: a path inside it or, in ``storage``, the name of its node (of the
    recipe called ``recipe``, if that is given) or the first digits of its key. Raises RequestError."""
    record, root = locate(target, storage, recipe)
    lost = missing(root, record)
    if lost:
        gone = root.where(f"{record.folder}/{lost}")
        raise RequestError(f"{gone} is missing or cut short; run the recipe again, which rebuilds it")
    directory = fetch_artifact(root, record)
    hardware = record.hardware
    workers = f"{record.workers} workers x {record.threads} threads"
    for line in (
        f"{record.name}  {record.stage} version {record.version}",
        f"key        {record.key}",
        f"files      {directory}",
        f"made       {record.committed}, {duration_of(record)}, {workers}, code {record.code}",
        f"on         {hardware.get('processor')}, {hardware.get('cores')} cores",
        f"size       {record.bytes:,} bytes in {len(record.files)} files",
        *([f"snapshot   {record.snapshot}"] if record.snapshot else []),
        *(f"input      {name}: {source}" for name, source in lineage(directory, record)),
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print("\n[bold]spec[/bold]")
    console.print_json(json.dumps(record.spec))
    console.print("[bold]facts[/bold]")
    console.print_json(json.dumps(record.facts))
    trainings: dict[str, type[DistilSpec | PretrainSpec]] = {one.stage: one for one in (DistilSpec, PretrainSpec)}
    if record.stage in trainings:
        with suppress(ValueError):  # the spec of another version
            start = describe_start(trainings[record.stage].model_validate(record.spec).start)
            console.print(f"first weights: {start}; layer 1 is the first", highlight=False, soft_wrap=True)
    with refused(target):
        show_contents(record, directory, console)
        show_errors(record, root, console)
        if record.stage in CANDIDATE_STAGES:
            show_candidates(directory, corpus_of(record, root), console)


def duration_of(record: Record) -> str:
    """``100 s``, ``100 s (about 25 s with all workers)`` if it had given up workers for more urgent stages."""
    text = f"{record.seconds:g} s"
    if not record.full_seconds or record.full_seconds >= record.seconds:
        return text
    return f"{text} (about {record.full_seconds:g} s with all workers)"


def corpus_of(record: Record, storage: Storage) -> Path | None:
    """The corpus whose rows a candidate table has candidates for; None if it no longer exists."""
    if "corpus" in record.places:
        try:
            return input_path(record, "corpus", storage)
        except RequestError:
            return None
    stage, key, *_ = Path(record.places["candidates"]).parts
    made = find(storage, stage, key)
    return None if made is None else corpus_of(made, storage)


def lineage(directory: Path, record: Record) -> Iterator[tuple[str, str]]:
    """(input name, name and key of the node or external input that it comes from), for each input of an artifact."""
    path = directory / "lineage.json"
    known: dict[str, Any] = json.loads(path.read_text("utf-8"))["inputs"] if path.exists() else {}
    for name, key in record.inputs.items():
        yield name, f"{known.get(name, {}).get('name', '')} {key[:12]}".strip()


def show_contents(record: Record, directory: Path, console: Console) -> None:
    """Print the files, a summary of a store, and the first rows of the first Parquet file."""
    table = Table("file", "bytes", header_style="bold")
    for file in record.files[:20]:
        table.add_row(Text(file.path), f"{file.size:,}")
    console.print(table)
    if len(record.files) > 20:
        console.print(f"and {len(record.files) - 20} more files")
    if record.stage in (TeachSpec.stage, ProbeSpec.stage):
        show_store(directory, console)
        show_layers(directory, console)
    if record.stage == CalibrateSpec.stage:
        show_calibration(directory, console)
    if record.stage == PretrainSpec.stage:
        show_pretraining(directory, console)
    tables = [file.path for file in record.files if file.path.endswith(".parquet") and file.path != QUARANTINED]
    if GENERATED_ROWS in tables:
        show_generated(directory / GENERATED_ROWS, console)
        return
    first = next(iter(tables), None)
    if first is not None:
        show_rows(directory / first, console)


def show_store(directory: Path, console: Console) -> None:
    """Print what a teacher-output store holds, and its size relative to uncompressed and to float32 data."""
    from stages.outputs.layout import read_store
    from stages.outputs.parquet import uncompressed_bytes
    from stages.outputs.quarantine import read_quarantined

    store = read_store(directory)
    layout, size = store.layout, sum(shard.bytes for shard in store.shards)
    before, single = uncompressed_bytes(directory, store)
    pooling = f", pooling {layout.pooling}" if layout.pooling else ""
    for line in (
        f"{layout.part}: layers {', '.join(map(str, layout.layers)) or 'none'}{pooling}, {layout.precision}, "
        f"{store.rows:,} rows in {len(store.shards)} shards",
        f"{size:,} bytes: {size / max(1, before):.2f} of {before:,} before compression, "
        f"{size / max(1, single):.2f} of {single:,} in float32",
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    bad = read_quarantined(directory)
    if bad:
        line = f"{len(bad):,} rows are set aside, as the teacher's outputs for them are not finite: {QUARANTINED}"
        console.print(line, style="yellow", highlight=False, soft_wrap=True, markup=False)


def show_calibration(directory: Path, console: Console) -> None:
    """Print a teacher's temperature, and what it changes on the held-out rows."""
    from stages.teaching.temperature import read_calibration

    console.print(read_calibration(directory).describe(), highlight=False, soft_wrap=True, markup=False)


def show_pretraining(directory: Path, console: Console) -> None:
    """Print the scores of a pretrained model on held-out texts, before its training and after each epoch; and if a
    teacher of a masked language model runs in it, the distances from it in each epoch."""
    history = json.loads((directory / "history.json").read_text("utf-8"))
    taught = any("teacher" in epoch for epoch in history["epochs"])
    distances = ("soft targets", "cosine") if taught else ()
    accuracy = ("held-out accuracy",) if "accuracy" in history["before"] else ()
    table = Table("epoch", "steps", "loss", *distances, "held-out loss", *accuracy, header_style="bold")
    table.add_row("before", "0", "", *("" for _ in distances), *_held_out(history["before"]))
    for epoch in history["epochs"]:
        own = [f"{value:.4f}" if value is not None else "-" for value in epoch.get("teacher", {}).values()]
        loss = f"{epoch['loss']:.4f}"
        table.add_row(str(epoch["epoch"]), f"{epoch['steps']:,}", loss, *own, *_held_out(epoch["held_out"]))
    console.print(table)


def show_generated(path: Path, console: Console) -> None:
    """Print rows of train and what a generator made of them, with the probabilities that teacher and student give to
    the row's label (the outputs of a regression), before and after."""
    import pyarrow.parquet as pq

    table = Table("original", "generated", "label", "teacher", "student", header_style="bold", show_lines=True)
    for row in pq.read_table(path).to_pylist():
        teacher, student = (
            f"{row[f'{model}_before']:.2f} -> {row[f'{model}_after']:.2f}" for model in ("teacher", "student")
        )
        table.add_row(Text(row["original"]), Text(row["generated"]), Text(row["label"]), teacher, student)
    console.print(table)


def _held_out(score: dict[str, float]) -> tuple[str, ...]:
    """The loss of a score as text, and its accuracy if it has one."""
    accuracy = (f"{score['accuracy']:.1f} %",) if "accuracy" in score else ()
    return f"{score['loss']:.4f}", *accuracy


def show_layers(directory: Path, console: Console) -> None:
    """Print the mean norm and the between-row variance of each column of a store of pooled states, and what it means
    where the variance is near 0."""
    from stages.outputs.layer_variance import DEAD, layer_variances

    found = layer_variances(directory)
    if not found:
        return
    table = Table("layer", "mean norm", "between-row variance", header_style="bold")
    for name, spread in found.items():
        dead = "  (hardly varies)" if spread.variance < DEAD else ""
        table.add_row(name, f"{spread.norm:.3g}", f"{spread.variance:.2g}{dead}")
    console.print(table)
    count = sum(spread.variance < DEAD for spread in found.values())
    if count:
        line = (
            f"{count} of {len(found)} columns hardly vary between rows (below {DEAD:g} of their energy): matching them "
            "teaches nothing, and a student whose last layer is one of them learns little by a head of that pooling "
            "(cls, or mean)"
        )
        console.print(line, style="yellow", highlight=False, soft_wrap=True, markup=False)


def show_candidates(directory: Path, corpus: Path | None, console: Console) -> None:
    """Print some rows of train with their candidates."""
    from stages.candidates.examples import examples

    for example in examples(directory, FIRST_ROWS, corpus):
        own = " | ".join(example.texts) if example.texts else example.row_key.hex()
        table = Table("rank", "distance", "candidate", title=Text(own), title_justify="left", header_style="bold")
        for one in example.candidates:
            distance = "" if isnan(one.distance) else f"{one.distance:.3f}"
            table.add_row(str(one.rank), distance, Text(" | ".join(one.texts)))
        console.print(table)


def show_rows(path: Path, console: Console) -> None:
    """Print the schema and the first rows of a Parquet file."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    console.print(f"{path.name}  {file.metadata.num_rows:,} rows", highlight=False, markup=False)
    rows = next(file.iter_batches(FIRST_ROWS)).to_pylist() if file.metadata.num_rows else []
    table = Table("column", "type", *(f"row {i}" for i in range(len(rows))), header_style="bold")
    for field in file.schema_arrow:
        # Text objects, as rich would take square brackets in a string for markup.
        table.add_row(*map(Text, (field.name, str(field.type), *(_short(row[field.name]) for row in rows))))
    console.print(table)


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:12]
    if isinstance(value, list):
        head = ", ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in value[:3])
        return f"[{head}{', ...' if len(value) > 3 else ''}]"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
