"""The commands on finished models, with their options and help."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import Command, Commands, Sets, StorageUrl

commands = typer.Typer(cls=Commands)

MODEL_HELP = (
    "A model: its directory (of a student, of transformers, or exported), the start of its key, the name of its "
    "training, or RECIPE:method/student/seed@task."
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
TextColumns = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="COL", help="A column of text; twice for pairs. By default those of the task."),
]


@commands.command(cls=Command)
def predict(
    model: Model,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV, JSON lines, Parquet, or a text a line.")],
    text: TextColumns = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A .csv, .tsv, .jsonl or .parquet; by default, CSV is printed."),
    ] = None,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Predict the labels of the rows of a file, with a probability for each label."""
    from pipeline.cli.models.find_model import find_model
    from pipeline.cli.models.predict import predict_rows

    predict_rows(find_model(model, storage, set_ or ()), file, text or (), out)
