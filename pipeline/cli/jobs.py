"""``stillhouse status``, ``logs`` and ``stop``: runs that were submitted to a cluster, seen from outside it."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from rich.table import Table

from cluster.jobs import STOP_SECONDS, ClusterJob, Jobs, UnknownJob
from pipeline.cli.job_log import begun, refusal, stages
from pipeline.cli.request import terminal
from pipeline.errors import RequestError
from pipeline.monitor.format import duration_text

ENVIRONMENT = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Where an address may stand that is not given, the first before the second."""
HTTP = ("http://", "https://")
LABEL = "stillhouse"
"""The label of our jobs among others."""
INTERRUPTED = 130


def status(name: str | None, address: str | None) -> int:
    """Print our jobs, or one of them with its stages. Raises RequestError."""
    jobs = connected(address)
    with answering(jobs.address, name):
        if name is None:
            print_jobs([job for job in jobs.all() if LABEL in job.labels])
        else:
            print_job(jobs.job(name), jobs.log(name))
    return 0


def logs(name: str, address: str | None, following: bool) -> int:
    """Print a job's log; of one that is followed, until it is over, then its exit code. Raises RequestError."""
    jobs = connected(address)
    with answering(jobs.address, name):
        if following:
            return follow(jobs, jobs.job(name).name)
        sys.stdout.write(jobs.log(name))
    return 0


def stop(name: str, address: str | None) -> int:
    """Stop a job, and wait until it has let go of everything. Raises RequestError."""
    jobs = connected(address)
    with answering(jobs.address, name):
        if not jobs.stop(name):
            print(f"{name}: {jobs.job(name).state} already")
            return 0
        job = jobs.wait(name, STOP_SECONDS + 10.0)
    print(f"{name}: {job.state}; the next run goes on from there" if job.over else f"{name}: it is stopping")
    return 0


def follow(jobs: Jobs, name: str) -> int:
    """Print the log of a job until it is over; return its exit code. Ctrl-C leaves the job as it is.

    Raises RequestError, the job's own, where its driver refused.
    """
    try:
        for piece in jobs.follow(name):
            sys.stdout.write(piece)
            sys.stdout.flush()
        job, log = jobs.job(name), jobs.log(name)
    except KeyboardInterrupt:
        return left_alone(jobs, name)
    except ConnectionError as error:
        print(f"stillhouse: {name}: not followed to its end, {error}", file=sys.stderr)
        return 1
    if exit_code(job) == 2:
        raise RequestError(refusal(log) or ending(job))
    if job.state != "succeeded" and not refusal(log):
        print(f"stillhouse: {name}: {ending(job)}", file=sys.stderr)
    return exit_code(job)


def left_alone(jobs: Jobs, name: str) -> int:
    """After Ctrl-C: who looked at the job goes, the job does not."""
    print(f"\nstillhouse: {name} goes on; {how_to('logs', name, jobs.address)}", file=sys.stderr)
    return INTERRUPTED


def exit_code(job: ClusterJob) -> int:
    """That of the run: 0, 1, 2 or 130."""
    if job.state == "stopped":
        return INTERRUPTED
    if job.state == "succeeded":
        return 0
    return job.code if job.code in (1, 2, INTERRUPTED) else 1


def ending(job: ClusterJob) -> str:
    """How a job ended, in a line."""
    message = " ".join(job.message.split())
    return f"{job.state}, {message[:200]}" if message and job.code is None else job.state


def how_to(verb: str, name: str, address: str) -> str:
    """A command, to be copied."""
    return f"stillhouse {verb} {name} --address {address}{' --follow' if verb == 'logs' else ''}"


# --- the address ----------------------------------------------------------------------------------


def connected(address: str | None) -> Jobs:
    """The jobs of the cluster at ``address``, or at the environment's. Raises RequestError."""
    found = dashboard(address)
    with answering(found):
        return Jobs.at(found)


@contextmanager
def answering(address: str, name: str | None = None) -> Iterator[None]:
    """A cluster that does not answer, or does not know the job, as a RequestError."""
    try:
        yield
    except ConnectionError as error:
        raise RequestError(f"--{error}") from error
    except UnknownJob as error:
        raise RequestError(
            f"JOB: {name} is not known at {address}; see stillhouse status --address {address}"
        ) from error


def dashboard(address: str | None) -> str:
    """``http://host:port``: what is given, else what the environment says. Raises RequestError."""
    for name, value in (("--address", address), *((name, os.environ.get(name)) for name in ENVIRONMENT)):
        # Of RAY_ADDRESS, host:port is meant for run.
        if value is None or (name == "RAY_ADDRESS" and "://" not in value):
            continue
        if not value.startswith(HTTP):
            host = host_of(value) or "HOST"
            raise RequestError(
                f"{name}: {value} is no address of the Jobs API; give the dashboard's, such as http://{host}:8265"
            )
        return value.rstrip("/")
    raise RequestError("--address: none is given; give that of the cluster's dashboard, such as http://HOST:8265")


def host_of(address: str) -> str | None:
    """The host in what is no URL of ours; None where there is none to be seen."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:
        return None


# --- what is printed ------------------------------------------------------------------------------


def print_jobs(found: list[ClusterJob]) -> None:
    """One line a job."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("job", "recipe", "state", "began", "took"):
        table.add_column(head, no_wrap=True)
    for job in found:
        table.add_row(job.name, job.labels.get("recipe", ""), job.state, began_at(job), took(job, time.time()))
    terminal().print(table)


def print_job(job: ClusterJob, log: str) -> None:
    """A job and its stages."""
    console, found = terminal(), stages(log)
    for line in (
        f"{job.name}  {job.state}",
        f"recipe     {job.labels.get('recipe', '')}",
        f"snapshot   {job.labels.get('snapshot', '')}",
        f"storage    {job.labels.get('storage', '')}",
        f"began      {began_at(job)}, {took(job, time.time())}",
        *([begun(log)] if begun(log) else []),
        *([f"stages     {counts(found)}"] if found else []),
        *(f"{state:<10} {stage}" for stage, state in found.items() if state != "done"),
        *([refusal(log) or ending(job)] if job.state == "failed" else []),
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def counts(found: Mapping[str, str]) -> str:
    """How many stages are in each state."""
    states = list(found.values())
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def began_at(job: ClusterJob) -> str:
    return "" if job.began is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.began))


def took(job: ClusterJob, now: float) -> str:
    return "" if job.began is None else duration_text((job.ended or now) - job.began)
