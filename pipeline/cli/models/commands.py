"""The commands on finished models, with their options and help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import Command, Commands, Sets, StorageUrl

commands = typer.Typer(cls=Commands)

MODEL_HELP = (
    "A model: its directory (of a student, of transformers, or exported), its name below models/ in the storage, the "
    "start of its key, the name of its training, or RECIPE:method/student/seed@task."
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
TextColumns = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="COL", help="A column of text; twice for pairs. By default those of the task."),
]


@commands.command(cls=Command)
def predict(
    model: Model,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV, TSV, JSON lines, Parquet, or a text a line; for images a folder, an image, or Parquet.",
        ),
    ],
    text: TextColumns = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="COL", help="A column of images in Parquet. By default that of the task."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A .csv, .tsv, .jsonl or .parquet; by default, CSV is printed."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="RAY", help="Compute on the workers of a running Ray: host:port, or auto."),
    ] = None,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Predict the labels of the rows of a file, with probabilities; with a sentence encoder, write their embeddings."""
    from pipeline.cli.models.find_model import find_model
    from pipeline.cli.models.predict import predict_rows

    raise typer.Exit(predict_rows(find_model(model, storage, set_ or ()), file, text or (), image, out, address))


class ExportForm(StrEnum):
    onnx = "onnx"
    onnx_int8 = "onnx-int8"
    safetensors = "safetensors"


@commands.command(cls=Command)
def export(
    model: Model,
    to: Annotated[ExportForm, typer.Option("--to", help="What to export it as.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The new folder; by default named after the model.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option("--rows", metavar="FILE", help="Compare on these rows; by default on dev rows of its task."),
    ] = None,
    text: TextColumns = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="REPO", help="Send the folder to this repository of the hub.")
    ] = None,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Export a model with its tokenizer and an example, and compare it with the original on real rows."""
    from pipeline.cli.models.export import export_model
    from pipeline.cli.models.find_model import find_model

    raise typer.Exit(export_model(find_model(model, storage, set_ or ()), to.value, out, rows, text or (), push))


class LatencyFormat(StrEnum):
    table = "table"
    json = "json"


@commands.command(cls=Command)
def latency(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help=f"{MODEL_HELP} The teacher of the first is measured, too.")
    ],
    batch: Annotated[str, typer.Option("--batch", metavar="N,N", help="Rows in a batch.")] = "1,32",
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads of the CPU.")] = 1,
    format: Annotated[LatencyFormat, typer.Option("--format", help="How to print it.")] = LatencyFormat.table,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Measure size, parameters and speed of models on the CPU, in turns, beside their teacher, for the report."""
    from pipeline.cli.models.find_model import find_model
    from pipeline.cli.models.latency import compare_latencies

    found = [find_model(model, storage, set_ or ()) for model in models]
    compare_latencies(found, batch, threads, format.value, storage)
