"""``stillhouse latency``: size, parameters and speed of finished models in one table."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.request import terminal
from pipeline.errors import RequestError, refused

if TYPE_CHECKING:
    from stages.deployment.latency import Latency

MOST_ROWS = 4096
"""The largest batch."""
BUSY = 1.5
"""How many times its processor time a batch may take by the clock before a warning says that the machine is busy."""


def compare_latencies(models: Sequence[FoundModel], batches: str, threads: int, form: str) -> None:
    """Measure the models as ``measured`` does, and print a table, or JSON with ``form`` "json". ``batches`` are the
    sizes, separated by commas. Raises RequestError."""
    found = measured(models, batch_sizes(batches), threads)
    if form == "json":
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        print_latencies(found, terminal())
    waited = max(one.waited for one in found)
    if waited > BUSY:
        print(
            f"stillhouse: warning: the machine is busy: batches took up to {waited:.1f} times their processor time; "
            "cpu_speedup of --format json does not depend on that",
            file=sys.stderr,
        )


def measured(models: Sequence[FoundModel], batches: Sequence[int], threads: int) -> "list[Latency]":
    """The latency of each model, and of the teacher of the first one where it is known, for each batch size on the CPU
    with so many threads. Raises RequestError."""
    described = [model.description() for model in models]
    if len({len(one.task.text) for one in described}) > 1:
        raise RequestError(
            f"MODEL: {', '.join(model.name for model in models)}: some read one text a row and some two; measure "
            "models of one kind"
        )
    teacher = models[0].teacher()
    if teacher is not None and all(teacher.directory != model.directory for model in models):
        models, described = [*models, teacher], [*described, described[0]]
    from stages.deployment.checked_rows import latency_texts
    from stages.deployment.latency import MeasuredModel, measure

    texts = latency_texts(models[0].corpus(), described[0], max(batches))
    given = [MeasuredModel(model.name, model.directory, one) for model, one in zip(models, described, strict=True)]
    with refused("MODEL"):
        return measure(given, texts, batches, threads)


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
        title=f"CPU, {first.threads} threads, {first.tokens:g} tokens a row on average",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("model", overflow="fold")
    table.add_column("runtime")
    for head in ("MB", "parameters", "batch", "p50 ms", "p95 ms", "rows/s", "speed-up"):
        table.add_column(head, justify="right", no_wrap=True)
    for before, one in zip([None, *found], found, strict=False):
        if before is not None and before.batch != one.batch:
            table.add_section()
        table.add_row(
            Text(one.model),
            one.runtime,
            f"{one.bytes / 1e6:,.1f}",
            f"{one.parameters:,}",
            str(one.batch),
            f"{one.p50_ms:.2f}",
            f"{one.p95_ms:.2f}",
            f"{one.rows_per_second:,.0f}",
            f"{one.speedup:.2f} x",
        )
    console.print(table)
