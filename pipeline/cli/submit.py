"""``stillhouse submit``: a run as a job of a Ray cluster. A wrong request is refused here where that is possible.

The job's driver is ``python -m pipeline run`` in the folder of the snapshot, on the head node. ``python`` is the one
on the ``PATH`` with which Ray was started there; it must have this project's dependencies installed.
"""

import secrets
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from cluster.jobs import Jobs, NotReady
from cluster.temporary import temporary_folder
from pipeline.cli.job_log import begun, last_error, tail
from pipeline.cli.jobs import (
    LABEL,
    cluster_errors,
    command_line,
    connect,
    exit_code,
    follow,
    outcome_text,
    stop_following,
)
from pipeline.cli.request import Request
from pipeline.errors import RequestError
from pipeline.execution.code_snapshot import Snapshot, take_snapshot
from pipeline.execution.job_env import SHARED_PATH, environment, relative_path_error
from pipeline.recipe import Recipe, load
from pipeline.recipe.paths import Kind, in_folder, is_relative_path, with_paths
from pipeline.recipe.yaml import Tree, read, to_yaml, with_sets

RECIPE = "recipe.yaml"
"""The recipe's name within a snapshot."""
BEGIN_SECONDS = 60.0
"""How long ``submit`` waits for the driver to begin its work."""
READY_SECONDS = 60.0
"""How long ``submit`` waits for a cluster that has just started to take jobs."""
POLL_SECONDS = 0.5
LAST_LINES = 20
"""Lines of the log that are printed if the driver ended without an error message of this program."""
REMEDIES: dict[Kind, str] = {
    "storage": f"{SHARED_PATH}, or s3://bucket/prefix",
    "source": f"{SHARED_PATH}, or hub",
    "file": SHARED_PATH,
    "model": f"{SHARED_PATH}, or a name on the hub",
    "tracker": f"{SHARED_PATH}, or a server's URL",
}


def submit_recipe(request: Request, address: str | None, following: bool) -> int:
    """Submit; wait until the driver has begun, or with ``following`` until it has ended. Returns the exit code.

    Raises RequestError.
    """
    recipe = load(request.recipe, request.sets, request.storage)
    jobs = connect(address)
    with cluster_errors(jobs.address):
        tree, resolved = with_absolute_paths(document(request, recipe), Path.cwd(), jobs.nodes())
        snapshot = take_snapshot({RECIPE: to_yaml(tree).encode("utf-8")})
        name, found = job_name(recipe.name, time.time()), labels(recipe, tree, snapshot)
        send(jobs, name, snapshot, request, environment(snapshot.sha256, resolved, recipe.origin), found)
        print(f"{name}: submitted to {jobs.address}, snapshot {snapshot.sha256[:12]}", flush=True)
        try:
            return follow(jobs, name) if following else await_begin(jobs, name, BEGIN_SECONDS)
        except KeyboardInterrupt:
            return stop_following(jobs, name)


def document(request: Request, recipe: Recipe) -> Tree:
    """The recipe's file with the command line's changes, and always with its storage."""
    tree = with_sets(read(request.recipe), request.sets)
    assert isinstance(tree, dict)
    return {**tree, "storage": recipe.storage}


def with_absolute_paths(tree: Tree, folder: Path, nodes: int) -> tuple[Tree, dict[str, str]]:
    """The recipe with paths relative to ``folder`` made absolute, and those paths as they were: field -> path.

    Raises RequestError for a relative path if the cluster has several nodes, which may have different files there.
    """
    resolved: dict[str, str] = {}

    def change(field: str, kind: Kind, text: str) -> str:
        if not is_relative_path(kind, text, folder):
            return text
        if nodes > 1:
            raise relative_path_error(field, text, REMEDIES[kind], nodes)
        resolved[field] = text
        return in_folder(kind, text, folder)

    return with_paths(tree, change), resolved


def labels(recipe: Recipe, tree: Tree, snapshot: Snapshot) -> dict[str, str]:
    """The labels of a job, which ``stillhouse status`` prints."""
    assert isinstance(tree, dict)
    return {LABEL: "run", "recipe": recipe.name, "snapshot": snapshot.sha256, "storage": str(tree["storage"])}


def job_name(recipe: str, clock: float) -> str:
    """A readable, unique name: recipe, time (``clock``, seconds since 1970) and four random digits."""
    return f"{recipe}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(clock))}-{secrets.token_hex(2)}"


def send(
    jobs: Jobs, name: str, snapshot: Snapshot, request: Request, variables: dict[str, str], labels: dict[str, str]
) -> None:
    """Submit the job. ``snapshot`` was read into memory before, so that later changes of files have no effect. Raises
    ConnectionError."""
    with temporary_folder("submit") as folder:
        archive = folder / "snapshot.zip"
        archive.write_bytes(snapshot.archive())
        what = (name, command(request), archive, variables, labels)
        when_ready(lambda: jobs.submit(*what), jobs.address, READY_SECONDS)


def when_ready(submit: Callable[[], None], address: str, seconds: float) -> None:
    """Call ``submit`` again while it raises NotReady, ``seconds`` at most, and print once that this waits. Raises
    ConnectionError."""
    ends, printed = time.monotonic() + seconds, False
    while True:
        try:
            return submit()
        except NotReady as error:
            if time.monotonic() >= ends:
                raise ConnectionError(
                    f"address: {address} takes no jobs yet, after {seconds:g} s; see ray status there, and try again"
                ) from error
        if not printed:
            print(f"{address} has just started and takes no jobs yet; waiting up to {seconds:g} s", flush=True)
            printed = True
        time.sleep(POLL_SECONDS)


def command(request: Request) -> str:
    """The driver's shell command. ``exec``: signals go to the driver, and its exit code is that of the job."""
    options = ["--refresh"] if request.refresh else []
    options += ["--stage", request.stage] if request.stage else []
    return "exec " + shlex.join(["python", "-m", "pipeline", "run", RECIPE, "--address", "auto", *options])


def await_begin(jobs: Jobs, name: str, seconds: float) -> int:
    """Wait ``seconds`` at most until the driver begins or ends, and print which; return the exit code so far.

    Raises RequestError if the driver refuses the request.
    """
    ends, state = time.monotonic() + seconds, ""
    while time.monotonic() < ends:
        job, log = jobs.job(name), jobs.log(name)
        if job.over and exit_code(job) == 2:
            raise RequestError(last_error(log) or f"{name}: refused; {command_line('logs', name, jobs.address)}")
        if job.over or begun(log):
            print(f"{name}: {outcome_text(job) if job.over else begun(log)}")
            if job.over:
                print(last_error(log) or tail(log, LAST_LINES))
            break
        if job.state != state:
            state = job.state
            print(f"{name}: {state}, its driver has not begun yet", flush=True)
        time.sleep(POLL_SECONDS)
    else:
        print(f"{name}: has not begun within {seconds:g} s; it may be starting, or reading the recipe's files")
    job = jobs.job(name)
    if not job.over:
        print("\n".join(command_line(verb, name, jobs.address) for verb in ("logs", "status", "stop")))
    return exit_code(job) if job.over else 0
