"""The commands on submissions to the GLUE leaderboard, with their options and help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.arguments import Command, Commands, RecipeFile, Sets, StorageUrl

commands = typer.Typer(cls=Commands)


class Fill(StrEnum):
    majority = "majority"


@commands.command(cls=Command)
def glue(
    recipe: RecipeFile,
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="The method whose students predict.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The zip to write.")],
    student: Annotated[
        str | None, typer.Option("--student", metavar="STUDENT", help="The student, where the recipe has several.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="The seed, where the recipe has several.")
    ] = None,
    fill: Annotated[
        Fill | None,
        typer.Option("--fill", help="Fill files without predictions with the most frequent label of train."),
    ] = None,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Write a submission to the GLUE leaderboard: predictions for its test splits, checked, as a zip."""
    from pipeline.cli.leaderboard.submission import Choice, write_submission
    from pipeline.cli.request import Request

    request = Request(recipe, tuple(set_ or ()), storage, False, None)
    write_submission(request, Choice(method, student, seed), out, fill is not None)


@commands.command("glue-check", cls=Command)
def glue_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A zip, written by whatever program.")],
) -> None:
    """Check a submission to the GLUE leaderboard: files, rows, order and values. Exits with 1 for a mistake."""
    from pipeline.cli.leaderboard.submission import check_submission

    raise typer.Exit(check_submission(file))
