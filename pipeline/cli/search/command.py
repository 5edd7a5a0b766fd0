"""The command ``search``, with its options and help."""

from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.arguments import Command, Commands, RecipeFile, Refresh, Sets, StorageUrl

commands = typer.Typer(cls=Commands)


class SearchFormat(StrEnum):
    table = "table"
    json = "json"


@commands.command(cls=Command)
def search(
    recipe: RecipeFile,
    format: Annotated[SearchFormat, typer.Option("--format", help="How to print it.")] = SearchFormat.table,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the trials that there are and would be. Builds nothing.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run trials again that have failed.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", metavar="RAY", help="A running Ray: host:port, or auto.")
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Run in this process, one trial at a time, without Ray.")
    ] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="With --inline: run trials side by side on this machine's first GPU.")
    ] = False,
    refresh: Refresh = False,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Search for good settings of a method: run the trials of the recipe's search block that are missing, and print
    the best."""
    from pipeline.cli.request import PlaceChoice, Request
    from pipeline.cli.search.run_search import SearchOptions, search_recipe

    request = Request(recipe, tuple(set_ or ()), storage, refresh, None)
    where = PlaceChoice(address, inline, gpu)
    raise typer.Exit(search_recipe(request, SearchOptions(format.value, dry_run, retry, where)))
