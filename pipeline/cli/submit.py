"""``stillhouse submit``: the same run, as a job of a cluster. What is wrong with it is found here as far as it can be.

The driver there is ``python -m pipeline run`` in the folder of the snapshot, on the head node. ``python`` is the one
on the ``PATH`` that Ray was started with there; what this project depends on must be installed for it.
"""

import secrets
import shlex
import tempfile
import time
from pathlib import Path

from cluster.jobs import Jobs
from pipeline.cli.job_log import begun, refusal, tail
from pipeline.cli.jobs import LABEL, answering, connected, ending, exit_code, follow, how_to, left_alone
from pipeline.cli.request import Request
from pipeline.errors import RequestError
from pipeline.execution.code_snapshot import Snapshot, take
from pipeline.execution.job_env import SHARED, environment, relative
from pipeline.recipe import Recipe, load
from pipeline.recipe.paths import Kind, in_folder, is_relative_path, with_paths
from pipeline.recipe.yaml import Tree, read, to_yaml, with_sets

RECIPE = "recipe.yaml"
"""The recipe's name within a snapshot."""
BEGIN_SECONDS = 60.0
"""How long ``submit`` waits for the driver to begin its work."""
LOOK_EVERY = 0.5
LAST_LINES = 20
"""So many lines of the log are told where a driver ended without a word of ours."""
REMEDIES: dict[Kind, str] = {
    "storage": f"{SHARED}, or s3://bucket/prefix",
    "source": f"{SHARED}, or hub",
    "file": SHARED,
    "model": f"{SHARED}, or a name on the hub",
    "tracker": f"{SHARED}, or a server's URL",
}


def submit_recipe(request: Request, address: str | None, following: bool) -> int:
    """Submit; wait until the driver has begun or refused, or follow it to its end. Returns the exit code.

    Raises RequestError.
    """
    recipe = load(request.recipe, request.sets, request.storage)
    jobs = connected(address)
    with answering(jobs.address):
        tree, resolved = placed(document(request, recipe), Path.cwd(), jobs.nodes())
        snapshot = take({RECIPE: to_yaml(tree).encode("utf-8")})
        name = job_name(recipe.name, time.time())
        send(jobs, name, snapshot, request, resolved, labels(recipe, tree, snapshot))
        print(f"{name}: sent to {jobs.address}, snapshot {snapshot.sha256[:12]}", flush=True)
        try:
            return follow(jobs, name) if following else await_begin(jobs, name, BEGIN_SECONDS)
        except KeyboardInterrupt:
            return left_alone(jobs, name)


def document(request: Request, recipe: Recipe) -> Tree:
    """The recipe's file with what the command line changes. The storage always stands in it."""
    tree = with_sets(read(request.recipe), request.sets)
    assert isinstance(tree, dict)
    return {**tree, "storage": recipe.storage}


def placed(tree: Tree, folder: Path, nodes: int) -> tuple[Tree, dict[str, str]]:
    """The tree with relative paths as ``folder`` has them, and those: field -> as it was given.

    RequestError where the cluster has several nodes: what one of them sees there, others may not.
    """
    resolved: dict[str, str] = {}

    def change(field: str, kind: Kind, text: str) -> str:
        if not is_relative_path(kind, text, folder):
            return text
        if nodes > 1:
            raise relative(field, text, REMEDIES[kind], nodes)
        resolved[field] = text
        return in_folder(kind, text, folder)

    return with_paths(tree, change), resolved


def labels(recipe: Recipe, tree: Tree, snapshot: Snapshot) -> dict[str, str]:
    """What ``status`` tells of a job."""
    assert isinstance(tree, dict)
    return {LABEL: "run", "recipe": recipe.name, "snapshot": snapshot.sha256, "storage": str(tree["storage"])}


def job_name(recipe: str, clock: float) -> str:
    """Readable, and no other job's."""
    return f"{recipe}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(clock))}-{secrets.token_hex(2)}"


def send(
    jobs: Jobs, name: str, snapshot: Snapshot, request: Request, resolved: dict[str, str], labels: dict[str, str]
) -> None:
    """Hand it over. What is sent is what was read above, whatever happens to the files."""
    with tempfile.TemporaryDirectory(prefix="stillhouse-submit-") as folder:
        archive = Path(folder) / "snapshot.zip"
        archive.write_bytes(snapshot.archive())
        jobs.submit(name, command(request), archive, environment(snapshot.sha256, resolved), labels)


def command(request: Request) -> str:
    """The driver, for a shell. It takes the shell's place, so that signals and exit codes are its own."""
    options = ["--refresh"] if request.refresh else []
    options += ["--stage", request.stage] if request.stage else []
    return "exec " + shlex.join(["python", "-m", "pipeline", "run", RECIPE, "--address", "auto", *options])


def await_begin(jobs: Jobs, name: str, seconds: float) -> int:
    """Wait until the driver begins, ends, or the time is over; say which. RequestError where the driver refuses."""
    ends, state = time.monotonic() + seconds, ""
    while time.monotonic() < ends:
        job, log = jobs.job(name), jobs.log(name)
        if job.over and exit_code(job) == 2:
            raise RequestError(refusal(log) or f"{name}: refused; {how_to('logs', name, jobs.address)}")
        if job.over or begun(log):
            print(f"{name}: {ending(job) if job.over else begun(log)}")
            if job.over:
                print(refusal(log) or tail(log, LAST_LINES))
            break
        if job.state != state:
            state = job.state
            print(f"{name}: {state}, the driver has not begun yet", flush=True)
        time.sleep(LOOK_EVERY)
    else:
        print(f"{name}: not begun within {seconds:g} s; it may be starting, or reading what the recipe names")
    job = jobs.job(name)
    if not job.over:
        print("\n".join(how_to(verb, name, jobs.address) for verb in ("logs", "status", "stop")))
    return exit_code(job) if job.over else 0
