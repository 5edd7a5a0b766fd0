"""``stillhouse status``, ``logs`` and ``stop``: runs that were submitted to a cluster as jobs."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from rich.table import Table

from cluster.jobs import STOP_SECONDS, ClusterJob, Jobs, UnknownJob
from pipeline.cli.job_log import begun, last_error, stages
from pipeline.cli.request import terminal
from pipeline.errors import RequestError
from pipeline.monitor.format import duration_text

ENVIRONMENT = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Environment variables that hold the address if none is given, in this order."""
HTTP = ("http://", "https://")
LABEL = "stillhouse"
"""The label by which this program's jobs are distinguished from other jobs of the cluster."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def status(name: str | None, address: str | None) -> int:
    """Print this program's jobs, or the job ``name`` with its stages. Returns the exit code. Raises RequestError."""
    jobs = connect(address)
    with cluster_errors(jobs.address, name):
        if name is None:
            print_jobs([job for job in jobs.all() if LABEL in job.labels])
        else:
            print_job(jobs.job(name), jobs.log(name))
    return 0


def logs(name: str, address: str | None, following: bool) -> int:
    """Print a job's log. With ``following``, print until the job has ended and return its exit code, else 0. Raises
    RequestError."""
    jobs = connect(address)
    with cluster_errors(jobs.address, name):
        if following:
            return follow(jobs, jobs.job(name).name)
        sys.stdout.write(jobs.log(name))
    return 0


def stop(name: str, address: str | None) -> int:
    """Stop a job and wait until its driver has ended. Returns the exit code. Raises RequestError."""
    jobs = connect(address)
    with cluster_errors(jobs.address, name):
        if not jobs.stop(name):
            print(f"{name}: has {jobs.job(name).state} already")
            return 0
        job = jobs.wait(name, STOP_SECONDS + 10.0)
    print(f"{name}: {job.state}; the next run resumes from there" if job.over else f"{name}: is still stopping")
    return 0


def follow(jobs: Jobs, name: str) -> int:
    """Print the log of a job until the job has ended; return its exit code. Ctrl-C does not stop the job.

    Raises RequestError, with the job's own message, if its driver refused the request.
    """
    try:
        for piece in jobs.follow(name):
            sys.stdout.write(piece)
            sys.stdout.flush()
        job, log = jobs.job(name), jobs.log(name)
    except KeyboardInterrupt:
        return stop_following(jobs, name)
    except ConnectionError as error:
        print(f"stillhouse: {name}: not followed to its end, {error}", file=sys.stderr)
        return 1
    if exit_code(job) == 2:
        raise RequestError(last_error(log) or outcome_text(job))
    if job.state != "succeeded" and not last_error(log):
        print(f"stillhouse: {name}: {outcome_text(job)}", file=sys.stderr)
    return exit_code(job)


def stop_following(jobs: Jobs, name: str) -> int:
    """After Ctrl-C while following a job: print that it keeps running, and return the exit code."""
    print(f"\nstillhouse: {name} keeps running; {command_line('logs', name, jobs.address)}", file=sys.stderr)
    return INTERRUPTED


def exit_code(job: ClusterJob) -> int:
    """The exit code of a job's run: 0, 1, 2 or 130."""
    if job.state == "stopped":
        return INTERRUPTED
    if job.state == "succeeded":
        return 0
    return job.code if job.code in (1, 2, INTERRUPTED) else 1


def outcome_text(job: ClusterJob) -> str:
    """How a job ended, in one line: its state, and Ray's message where the driver left no exit code."""
    message = " ".join(job.message.split())
    return f"{job.state}, {message[:200]}" if message and job.code is None else job.state


def command_line(verb: str, name: str, address: str) -> str:
    """A command of this program about a job, for the user to copy."""
    return f"stillhouse {verb} {name} --address {address}{' --follow' if verb == 'logs' else ''}"


# --- the address ----------------------------------------------------------------------------------


def connect(address: str | None) -> Jobs:
    """The jobs of the cluster at ``address``, or at the address in the environment. Raises RequestError."""
    url = dashboard(address)
    with cluster_errors(url):
        return Jobs.at(url)


@contextmanager
def cluster_errors(address: str, name: str | None = None) -> Iterator[None]:
    """Re-raise as RequestError that the cluster does not answer, or does not know the job ``name``."""
    try:
        yield
    except ConnectionError as error:
        raise RequestError(f"--{error}") from error
    except UnknownJob as error:
        raise RequestError(
            f"JOB: {name} is not known at {address}; see stillhouse status --address {address}"
        ) from error


def dashboard(address: str | None) -> str:
    """``http://host:port``: ``given`` address, else the one in the environment. Raises RequestError."""
    for name, value in (("--address", address), *((name, os.environ.get(name)) for name in ENVIRONMENT)):
        # A RAY_ADDRESS of the form host:port is meant for ``stillhouse run``.
        if value is None or (name == "RAY_ADDRESS" and "://" not in value):
            continue
        if not value.startswith(HTTP):
            host = host_of(value) or "HOST"
            raise RequestError(
                f"{name}: {value} is not the address of Ray's dashboard; give one such as http://{host}:8265"
            )
        return value.rstrip("/")
    raise RequestError("--address: is missing; give that of the cluster's dashboard, such as http://HOST:8265")


def host_of(address: str) -> str | None:
    """The host in an address of another form, such as host:port or ray://host:port; None if there is none."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:
        return None


# --- what is printed ------------------------------------------------------------------------------


def print_jobs(jobs: list[ClusterJob]) -> None:
    """Print one line for each job."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("job", "recipe", "state", "began", "took"):
        table.add_column(head, no_wrap=True)
    for job in jobs:
        table.add_row(job.name, job.labels.get("recipe", ""), job.state, began_at(job), took(job, time.time()))
    terminal().print(table)


def print_job(job: ClusterJob, log: str) -> None:
    """Print a job, and its stages that are not done."""
    console, states = terminal(), stages(log)
    for line in (
        f"{job.name}  {job.state}",
        f"recipe     {job.labels.get('recipe', '')}",
        f"snapshot   {job.labels.get('snapshot', '')}",
        f"storage    {job.labels.get('storage', '')}",
        f"began      {began_at(job)}, {took(job, time.time())}",
        *([begun(log)] if begun(log) else []),
        *([f"stages     {counts_text(states)}"] if states else []),
        *(f"{state:<10} {stage}" for stage, state in states.items() if state != "done"),
        *([last_error(log) or outcome_text(job)] if job.state == "failed" else []),
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def counts_text(stages: Mapping[str, str]) -> str:
    """The number of stages in each state: ``3 done, 1 running``."""
    states = list(stages.values())
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def began_at(job: ClusterJob) -> str:
    return "" if job.began is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.began))


def took(job: ClusterJob, now: float) -> str:
    return "" if job.began is None else duration_text((job.ended or now) - job.began)
