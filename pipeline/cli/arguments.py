"""Arguments and options that several commands have, and how the help shows options."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
StorageUrl = Annotated[
    str | None,
    typer.Option("--storage", metavar="URL", help="Where artifacts are kept; by default what the recipe says."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a key of the recipe. Repeatable.")
]
StageName = Annotated[
    str | None, typer.Option("--stage", metavar="NAME[@task]", help="Rebuild this stage and what depends on it.")
]
Dashboard = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, http://host:8265; by default $RAY_API_SERVER_ADDRESS.",
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's name, as printed by submit.")]
Refresh = Annotated[
    bool, typer.Option("--refresh", help="Look up the latest commits of models and data sets on the hub.")
]

Target = Annotated[
    str,
    typer.Argument(
        metavar="PATH|NODE|KEY",
        help="An artifact's directory, its record, the name of its node or of its model, or the start of its key.",
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", metavar="RECIPE", help="The recipe whose node it is: its file, or its name."),
]
AsWritten = Annotated[
    bool, typer.Option("--as-written", help="Take the recipe as it is, without the --set of its last run.")
]


class PlanFormat(StrEnum):
    table = "table"
    json = "json"


class ReportFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    html = "html"


class Command(TyperCommand):
    """A command in whose help ``--inline`` is not ``--inline <bool>``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's parameters."""
        return _without_types_of_flags(super().get_params(ctx))


class Commands(TyperGroup):
    """All commands, with help of the same kind."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of the program itself."""
        return _without_types_of_flags(super().get_params(ctx))


def ask_user(question: str, default: str) -> str:
    """The answer of the user at the terminal, on whose standard error the question is; ``default`` for an empty
    one."""
    answer: str = typer.prompt(question, default=default, err=True)
    return answer


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    """The parameters, where options that take no value show no type."""
    for parameter in parameters:
        if isinstance(parameter, TyperOption) and parameter.is_flag:
            parameter.metavar = ""
    return parameters
