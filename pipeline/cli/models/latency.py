"""``stillhouse latency``: size, parameters and speed of finished models in one table."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.latencies import MeasuredLatency, note_latencies
from pipeline.artifacts.provenance import hardware
from pipeline.artifacts.record import sound_record_of
from pipeline.cli.models.find_model import TEACHER, FoundModel, original_of
from pipeline.cli.request import terminal
from pipeline.errors import RequestError, refused
from pipeline.graph.nodes import artifact_key
from stages.deployment.description import exported_from
from stages.models.heads import has_token_labels

if TYPE_CHECKING:
    from stages.deployment.latency import Latency

MOST_ROWS = 4096
"""The largest batch."""
BUSY = 1.5
"""How many times its processor time a batch may take by the clock before a warning says that the machine is busy."""


def compare_latencies(
    models: Sequence[FoundModel], batches: str, threads: int, form: str, storage: str | None = None
) -> None:
    """Measure the models as ``measured`` does, and print a table, or JSON with ``form`` "json". ``batches`` are the
    sizes, separated by commas. Raises RequestError."""
    compared = lineup(models, storage)
    found = measured(compared, batch_sizes(batches), threads)
    kept = keep(compared, found)
    if form == "json":
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        print_latencies(found, terminal())
        if kept:
            print(kept)
    waited = max(one.waited for one in found)
    if waited > BUSY:
        print(
            f"stillhouse: warning: the machine is busy: batches took up to {waited:.1f} times their processor time; "
            "cpu_speedup of --format json does not depend on that",
            file=sys.stderr,
        )


def lineup(models: Sequence[FoundModel], storage: str | None = None) -> list[FoundModel]:
    """The models to measure, each once: the teacher of the first one that has one, then the ``models``, each that was
    exported after the model of which it was, as far as they are at hand. ``storage`` is where the originals of exported
    models are. Raises RequestError."""
    found: list[FoundModel] = []
    for model in models:
        original = original_of(model, storage)
        found += [model] if original is None else [original, model]
    teacher = next((teacher for model in found if (teacher := model.teacher()) is not None), None)
    unique = {model.directory.resolve(): model for model in reversed(found)}  # the first of equal ones stays
    if teacher is not None and teacher.directory.resolve() not in unique:
        return [teacher, *(model for model in found if unique[model.directory.resolve()] is model)]
    return [model for model in found if unique[model.directory.resolve()] is model]


def measured(models: Sequence[FoundModel], batches: Sequence[int], threads: int) -> "list[Latency]":
    """The latency of each model for each batch size on the CPU with so many threads. Raises RequestError."""
    for model in models:
        if has_token_labels(model.directory):
            raise RequestError(f"MODEL: {model.name} labels words, for which there is no latency; give other models")
    known = next((model for model in models if model.stored is not None), models[0])
    task = known.description()
    described = [task if model.name == TEACHER else model.description() for model in models]
    if len({len(one.task.text) for one in described}) > 1:
        raise RequestError(
            f"MODEL: {', '.join(model.name for model in models)}: some read one text a row and some two; measure "
            "models of one kind"
        )
    from stages.deployment.checked_rows import latency_texts
    from stages.deployment.latency import MeasuredModel, measure

    texts = latency_texts(known.corpus(), task, max(batches))
    given = [MeasuredModel(model.name, model.directory, one) for model, one in zip(models, described, strict=True)]
    with refused("MODEL"):
        return measure(given, texts, batches, threads)


def keep(models: Sequence[FoundModel], found: "Sequence[Latency]") -> str:
    """Write the measurements of a ``lineup`` down in the storage of its models, for reports. Returns a line that says
    so; '' where no storage knows the models, or it cannot be written."""
    storage = next((model.stored.storage for model in models if model.stored is not None), None)
    if storage is None:
        return ""
    when, machine = datetime.now(UTC).isoformat(timespec="seconds"), hardware()
    taught_by = {model.identity: model.taught_by() for model in models if model.stored is not None}
    identities = [model.identity or exported_from(model.directory) for model in models]
    known = {one for one in identities if one is not None and sound_record_of(artifact_key(one), storage) is not None}
    noted = []
    for place, one in enumerate(found):
        model, identity = models[place % len(models)], identities[place % len(models)]
        if identity is None or (model.identity is None and identity not in taught_by):
            continue  # a directory from elsewhere
        beside_teacher = models[0].identity is not None and taught_by.get(identity) == models[0].identity
        noted.append(
            MeasuredLatency(
                model=identity,
                external=identity not in known,
                **{name: getattr(one, name) for name in SHARED},
                speedup=one.speedup if beside_teacher else None,
                cpu_speedup=one.cpu_speedup if beside_teacher else None,
                host=str(machine["host"]),
                processor=str(machine["processor"]),
                cores=int(str(machine["cores"])),
                measured=when,
            )
        )
    try:
        note_latencies(noted, storage)
    except OSError:  # it may only be read: the table is all that is wanted
        return ""
    return f"kept in {storage}, for stillhouse report" if noted else ""


SHARED = (
    "runtime",
    "bytes",
    "parameters",
    "batch",
    "threads",
    "tokens",
    "p50_ms",
    "p95_ms",
    "cpu_ms",
    "rows_per_second",
)
"""What a measurement that is kept takes over from a ``Latency``."""


def batch_sizes(text: str) -> list[int]:
    """The batch sizes in ``1,32``. Raises RequestError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= MOST_ROWS for part in parts):
        raise RequestError(f"--batch: {text}; give whole numbers from 1 to {MOST_ROWS:,}, separated by commas: 1,32")
    return list(dict.fromkeys(map(int, parts)))


def print_latencies(found: Sequence["Latency"], console: Console) -> None:
    """Print a row for each model and batch size."""
    first = found[0]
    table = Table(
        title=f"CPU, {first.threads} thread{'s' * (first.threads != 1)}, {first.tokens:g} tokens a row on average",
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("model", overflow="fold")
    table.add_column("runtime", no_wrap=True)
    for head in ("MB", "params", "batch", "p50 ms", "p95 ms", "rows/s", "speed-up"):
        table.add_column(head, justify="right", no_wrap=True)
    for before, one in zip([None, *found], found, strict=False):
        if before is not None and before.batch != one.batch:
            table.add_section()
        table.add_row(
            Text(one.model.removeprefix("distil/")),
            one.runtime,
            f"{one.bytes / 1e6:,.1f}",
            f"{one.parameters / 1e6:,.1f}M",
            str(one.batch),
            f"{one.p50_ms:.2f}",
            f"{one.p95_ms:.2f}",
            f"{one.rows_per_second:,.0f}",
            f"{one.speedup:.2f} x",
        )
    console.print(table)
