"""The command line: the commands, their options and help, and the exit codes.

Exit codes: 0 done; 1 some stage failed; 2 the request is wrong; 130 after Ctrl-C. Ray, torch and other libraries that
take long to load are imported only by the commands that need them.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NoReturn

import typer

from pipeline.cli.arguments import (
    AsWritten,
    Command,
    Commands,
    Dashboard,
    JobName,
    PlanFormat,
    RecipeFile,
    RecipeName,
    Refresh,
    ReportFormat,
    Sets,
    StageName,
    StorageUrl,
    Target,
    ask_user,
)
from pipeline.cli.leaderboard.commands import commands as leaderboard_commands
from pipeline.cli.models.commands import commands as model_commands
from pipeline.cli.search.command import commands as search_commands
from pipeline.errors import RequestError, first_line
from pipeline.execution.signals import interrupt_on_sigterm

PROGRAM = "stillhouse"

app = typer.Typer(
    name=PROGRAM,
    cls=Commands,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PLAIN = 120
"""The largest width of running text, in columns."""

SMALL_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
"""The teacher of a new recipe: small enough for a machine without a GPU, and installed with the package."""

NOT_RESUMED = ("predict", "export", "latency", "glue")
"""Commands that begin anew after an interruption."""

INTERRUPTED = 130
"""The exit code that typer returns after a KeyboardInterrupt."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


@app.callback(cls=Commands)
def program(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compress fine-tuned language encoders: run the teacher once, distil students from its stored outputs."""


@app.command(cls=Command)
def init(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="CSV, TSV, JSONL or Parquet: train, perhaps dev and test.")
    ],
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="COLUMN", help="The column of text; twice for a pair.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="The column of labels.")] = None,
    teacher: Annotated[
        str, typer.Option("--teacher", metavar="MODEL", help="A directory, or the name of a model on the hub.")
    ] = SMALL_TEACHER,
    out: Annotated[Path, typer.Option("--out", metavar="RECIPE", help="The file to write.")] = Path("recipe.yaml"),
    storage: Annotated[
        str, typer.Option("--storage", metavar="URL", help="Where the recipe is to keep its results.")
    ] = "runs",
) -> None:
    """Write a recipe for your data: find columns and labels, and choose students and methods for their size."""
    from pipeline.cli.data.init import InitRequest, init_recipe

    ask = ask_user if sys.stdin.isatty() and sys.stderr.isatty() else None
    init_recipe(InitRequest(tuple(files), tuple(text or ()), label, teacher, out, storage), ask)


@app.command(cls=Command)
def run(
    recipe: RecipeFile,
    stage: StageName = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="RAY", help="A running Ray: host:port, or auto.")
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Run in this process, one stage at a time, without Ray.")
    ] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="With --inline: run stages side by side on this machine's first GPU.")
    ] = False,
    refresh: Refresh = False,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Build what the recipe needs and is not built yet, then print the results."""
    if sys.stderr.isatty():  # before the imports and the reading of files, which may take seconds on a cold disk
        print(f"{PROGRAM}: reading {recipe}", file=sys.stderr, flush=True)
    from pipeline.cli.request import PlaceChoice, Request
    from pipeline.cli.run import run_recipe

    request = Request(recipe, tuple(set_ or ()), storage, refresh, stage)
    raise typer.Exit(run_recipe(request, PlaceChoice(address, inline, gpu)))


@app.command(cls=Command)
def submit(
    recipe: RecipeFile,
    address: Dashboard = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print the job's log until it ends; exit with its code.")
    ] = False,
    stage: StageName = None,
    refresh: Refresh = False,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Run the recipe as a job of a Ray cluster, with a snapshot of the code and the recipe."""
    from pipeline.cli.request import Request
    from pipeline.cli.submit import submit_recipe

    sys.exit(submit_recipe(Request(recipe, tuple(set_ or ()), storage, refresh, stage), address, follow))


@app.command(cls=Command)
def status(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Show this job and its stages.")] = None,
    address: Dashboard = None,
) -> None:
    """List the runs that were submitted to a cluster, or show one of them."""
    from pipeline.cli.jobs import status

    sys.exit(status(job, address))


@app.command(cls=Command)
def logs(
    job: JobName,
    address: Dashboard = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print until the job ends; exit with its code.")] = False,
) -> None:
    """Print the log of a run that was submitted."""
    from pipeline.cli.jobs import logs

    sys.exit(logs(job, address, follow))


@app.command(cls=Command)
def stop(job: JobName, address: Dashboard = None) -> None:
    """Stop a run that was submitted. Finished work is kept, and the next run resumes from there."""
    from pipeline.cli.jobs import stop

    sys.exit(stop(job, address))


@app.command(cls=Command)
def plan(
    recipe: RecipeFile,
    format: Annotated[PlanFormat, typer.Option("--format", help="How to print it.")] = PlanFormat.table,
    stage: StageName = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="First measure on this machine, for half a minute at most, what the stages' work costs."
        ),
    ] = False,
    inline: Annotated[bool, typer.Option("--inline", help="The time that a run with --inline takes.")] = False,
    refresh: Refresh = False,
    storage: StorageUrl = None,
    set_: Sets = None,
) -> None:
    """Print what would be reused and what would be built, why, how large it is and how long it takes. Builds
    nothing."""
    from pipeline.cli.plan import plan_recipe
    from pipeline.cli.request import Request

    plan_recipe(Request(recipe, tuple(set_ or ()), storage, refresh, stage), format.value, probe, inline)


@app.command(cls=Command)
def report(
    recipe: RecipeFile,
    format: Annotated[ReportFormat, typer.Option("--format", help="How to print it.")] = ReportFormat.table,
    out: Annotated[Path | None, typer.Option("--out", metavar="PATH", help="Write to a file instead.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="METHOD", help="Compare the other methods with this one, with intervals."),
    ] = None,
    last_epoch: Annotated[
        bool, typer.Option("--last-epoch", help="Compare the last epochs, not those that were selected.")
    ] = False,
    classes: Annotated[
        bool,
        typer.Option("--classes", help="The scores of each class instead, and where students differ from the teacher."),
    ] = False,
    storage: StorageUrl = None,
    set_: Sets = None,
    as_written: AsWritten = False,
) -> None:
    """Print the scores of the models that have been built."""
    from pipeline.cli.report import report_recipe
    from pipeline.cli.request import Request

    request = Request(recipe, tuple(set_ or ()), storage, False, None)
    if classes:
        if baseline is not None or last_epoch:
            raise RequestError("--classes: has no comparison; leave --baseline and --last-epoch out")
        from pipeline.cli.models.errors import report_classes

        report_classes(request, format.value, out, as_written)
        return
    report_recipe(request, format.value, out, as_written, baseline, last_epoch)


@app.command(cls=Command)
def curves(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of links.")] = Path("curves"),
    storage: StorageUrl = None,
    set_: Sets = None,
    as_written: AsWritten = False,
) -> None:
    """Make a folder with links to the curves of each training, for tensorboard --logdir."""
    from pipeline.cli.report import curves_of_recipe
    from pipeline.cli.request import Request

    request = Request(recipe, tuple(set_ or ()), storage, False, None)
    raise typer.Exit(curves_of_recipe(request, out, as_written))


@app.command(cls=Command)
def show(
    target: Target,
    recipe: RecipeName = None,
    storage: StorageUrl = None,
) -> None:
    """Show an artifact: its record, its inputs, its files and first rows."""
    from pipeline.cli.request import storage_and_recipe, terminal
    from pipeline.cli.show import show_artifact

    found, name = storage_and_recipe(recipe, storage)
    show_artifact(target, found, terminal(), name)


@app.command(cls=Command)
def verify(
    target: Target,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", metavar="N", min=0, help="Compute N rows of a store again with its teacher, and compare."
        ),
    ] = 0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Keep the sound shards of a store and compute the others again.")
    ] = False,
    recipe: RecipeName = None,
    storage: StorageUrl = None,
) -> None:
    """Check an artifact: checksums; for a teacher-output store also schema, rows and values."""
    from pipeline.cli.request import storage_and_recipe, terminal
    from pipeline.cli.verify import verify_artifact

    found, name = storage_and_recipe(recipe, storage)
    raise typer.Exit(verify_artifact(target, found, sample, repair, terminal(), name))


app.add_typer(search_commands)
app.add_typer(model_commands)
app.add_typer(leaderboard_commands)


@app.command(cls=Command)
def gc(
    recipes: Annotated[
        list[Path], typer.Argument(metavar="RECIPE", help="Recipes whose artifacts are kept if they need them.")
    ],
    others: Annotated[
        bool, typer.Option("--others", help="Also what other recipes made or used, or none that is recorded.")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Keep what is younger than, for example, 14d, 36h or 30m."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it. Without this, only list what would be removed.")
    ] = False,
    storage: StorageUrl = None,
    set_: Sets = None,
    as_written: AsWritten = False,
) -> None:
    """Remove what these recipes made or used and need no longer, except what a run is building or using."""
    from pipeline.cli.gc import gc_recipes
    from pipeline.cli.request import Request

    requests = [Request(recipe, tuple(set_ or ()), storage, False, None) for recipe in recipes]
    raise typer.Exit(gc_recipes(requests, older_than, yes, others, as_written))


@app.command(cls=Command)
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this method in full.")] = None,
) -> None:
    """List the methods: paper, what each needs of its teacher, which teacher, defaults, an example."""
    from rich.console import Console

    from pipeline.cli.methods import full_description, listing
    from pipeline.methods import EMBEDDING_BY_NAME, find

    console = Console(width=None if sys.stdout.isatty() else PLAIN, highlight=False)
    width = min(console.width, PLAIN)
    named = None if name is None else EMBEDDING_BY_NAME.get(name) or find(name)
    for line in (listing(width) if named is None else full_description(named, width)).split("\n"):
        console.print(line, style=None if line.startswith(" ") else "bold", markup=False, soft_wrap=True)


@app.command(cls=Command)
def tasks() -> None:
    """List the built-in tasks: columns, labels, metrics, splits."""
    from pipeline.cli.data.tasks import print_tasks

    print_tasks()


@app.command(cls=Command)
def doctor(
    address: Annotated[
        str | None, typer.Option("--address", metavar="RAY", help="Check this cluster, too: host:port, or auto.")
    ] = None,
    storage: StorageUrl = None,
) -> None:
    """Check this machine: packages, processor, GPUs, storage, cache, hub, Ray. Exits with 1 if there is a problem."""
    from pipeline.cli.request import PlaceChoice, terminal
    from pipeline.cli.run_plan import open_place
    from pipeline.doctor.command import doctor

    with TemporaryDirectory(prefix="stillhouse-doctor-") as logs:
        raise typer.Exit(
            doctor(storage or "runs", address, lambda one: open_place(PlaceChoice(one), Path(logs), 0.0), terminal())
        )


@app.command("help", cls=Command)
def help_(
    command: Annotated[str | None, typer.Argument(metavar="COMMAND", help="The command to explain.")] = None,
) -> None:
    """Explain a command and its options, as COMMAND --help does."""
    app(args=[*([command] if command else []), "--help"], standalone_mode=False)


def main() -> NoReturn:
    """Run the program and exit. A wrong request is one line on stderr and exit code 2."""
    # OpenMP threads that wait by spinning make a busy machine ten times slower. torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    interrupt_on_sigterm()
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except RequestError as error:
        print(f"stillhouse: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:  # Ctrl-C or Ctrl-D at a question
        print("\nstillhouse: stopped, and nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:  # a full disk, say, or a storage that does not answer: finished work is kept
        print(f"stillhouse: {first_line(error)}; the next run resumes from here", file=sys.stderr)
        sys.exit(1)
    except typer.TyperException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        print(f"stillhouse: {message}; see stillhouse --help", file=sys.stderr)
        sys.exit(2)
    if code == INTERRUPTED:
        begins_anew = sys.argv[1:2] and sys.argv[1] in NOT_RESUMED
        print(f"stillhouse: stopped{'' if begins_anew else '; the next run resumes from here'}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
