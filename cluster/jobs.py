"""Ray's Jobs API: drivers that run on the cluster's head node, and go on when the client that submitted them is gone.

One archive is uploaded, which Ray unpacks on each node that needs it and puts first on the import path of the driver
and of all its workers. This module does not depend on what the archive contains or what the driver does."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.ray_internals import CLIENT_LOGGERS, NO_AGENT

REACH_SECONDS = 5.0
"""How long an address may take to answer."""
STOP_SECONDS = 60
"""How long a job may take to stop before Ray kills it."""
POLL = 0.5
"""Seconds between two requests for a job's state."""
SILENT_SECONDS = 60.0
"""How long a log may be silent before its connection is taken to be lost, and made again."""
MOST_CHARACTERS = 300
"""The most characters of Ray's own error message that are shown."""
PORTS = {"http": 80, "https": 443}


class UnknownJob(LookupError):
    """The cluster has no job of this name."""


class NotReady(ConnectionError):
    """The cluster takes no jobs yet: its head has just started."""


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A job as the cluster knows it. Times are in seconds since 1970; None where they are not known.

    ``state`` is ``pending``, ``running``, ``succeeded``, ``failed`` or ``stopped``. ``code`` is the exit code of
    its driver, None where there is none, as for a job that was stopped. ``message`` is Ray's own.
    """

    name: str
    state: str
    labels: Mapping[str, str]
    began: float | None
    ended: float | None
    code: int | None
    message: str

    @property
    def over(self) -> bool:
        return self.state in ("succeeded", "failed", "stopped")


class Jobs:
    """The jobs of a cluster. Any call raises ``ConnectionError``, of one line, where the cluster no longer answers."""

    def __init__(self, address: str, client: Any) -> None:
        """Use ``Jobs.at``."""
        self.address = address
        self._client = client

    @classmethod
    def at(cls, address: str) -> "Jobs":
        """The jobs of the cluster whose dashboard has the address ``http://host:port``.

        The user's token, if there is one, is sent to the cluster. Raises ``ConnectionError``, one line that names the
        address."""
        _reach(address)
        if "RAY_AUTH_MODE" not in os.environ and _has_token():
            os.environ["RAY_AUTH_MODE"] = "token"  # read when Ray is imported
        from ray.job_submission import JobSubmissionClient

        for name in CLIENT_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        with ray_errors(address), _without_address_variables():
            return cls(address, JobSubmissionClient(address))

    def nodes(self) -> int:
        """How many nodes are alive."""
        from ray.util.state import list_nodes

        with ray_errors(self.address), _without_address_variables():
            return len(list_nodes(address=self.address, filters=[("state", "=", "ALIVE")]))

    def submit(
        self, name: str, command: str, archive: Path, environment: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Start a job called ``name`` on the head node: ``command``, for a shell, in the folder in which the ``.zip``
        was unpacked. ``environment`` is set in the driver and in its workers. Raises ``NotReady`` while the cluster
        takes no jobs yet."""
        stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        with ray_errors(self.address):
            self._client.submit_job(
                entrypoint=command,
                submission_id=name,
                runtime_env={"working_dir": str(archive), "env_vars": {**stop, **environment}},
                metadata=dict(labels),
            )

    def all(self) -> list[ClusterJob]:
        """Every job that was submitted, the newest last."""
        with ray_errors(self.address):
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.began or float("inf"), job.name))

    def job(self, name: str) -> ClusterJob:
        """Raises ``UnknownJob``."""
        with ray_errors(self.address, name):
            return _job(self._client.get_job_info(name))

    def log(self, name: str) -> str:
        """The driver's output so far. Raises ``UnknownJob``."""
        with ray_errors(self.address, name):
            return str(self._client.get_job_logs(name))

    def follow(self, name: str) -> Iterator[str]:
        """The driver's output, piece by piece as it comes, until the job is over. Raises ``UnknownJob``."""
        received = 0
        while True:
            over = self.job(name).over
            with contextlib.closing(self._pieces(name, received)) as pieces:
                for piece in pieces:
                    received += len(piece)
                    yield piece
            if over:
                return
            time.sleep(POLL)  # the connection broke, or the job has just ended

    def stop(self, name: str) -> bool:
        """Stop the job: its driver gets SIGTERM. Returns False if it was over already. Raises ``UnknownJob``."""
        with ray_errors(self.address, name):
            return bool(self._client.stop_job(name))

    def wait(self, name: str, seconds: float) -> ClusterJob:
        """The job once it is over, or as it is after so many seconds. Raises ``UnknownJob``."""
        ends = time.monotonic() + seconds
        job = self.job(name)
        while not job.over and time.monotonic() < ends:
            time.sleep(POLL)
            job = self.job(name)
        return job

    def _pieces(self, name: str, skip: int) -> Generator[str, None, None]:
        """The log without its first ``skip`` characters, as it comes, until the job is over or the connection
        breaks."""
        if self.job(name).over:
            yield self.log(name)[skip:]
            return
        tail: AsyncIterator[str] = self._client.tail_job_logs(name)
        with asyncio.Runner() as runner:
            while True:
                try:
                    piece = runner.run(_next(tail))
                except (StopAsyncIteration, RuntimeError, OSError):
                    return
                known, skip = min(skip, len(piece)), max(0, skip - len(piece))
                if piece[known:]:
                    yield piece[known:]


async def _next(tail: AsyncIterator[str]) -> str:
    return await asyncio.wait_for(anext(tail), SILENT_SECONDS)


def _job(details: Any) -> ClusterJob:
    return ClusterJob(
        name=details.submission_id,
        state=details.status.value.lower(),
        labels=dict(details.metadata or {}),
        began=None if not details.start_time else details.start_time / 1000,
        ended=None if not details.end_time else details.end_time / 1000,
        code=details.driver_exit_code,
        message=details.message or "",
    )


def _has_token() -> bool:
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    return bool(named) or (Path.home() / ".ray" / "auth_token").exists()


def _reach(address: str) -> None:
    """Raise ``ConnectionError`` at once where nothing listens: Ray's client would wait for ever."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme]
    except (KeyError, ValueError):
        host, port = None, 0
    if not host:
        raise ConnectionError(f"address: {address} is not http://host:port of a Ray dashboard")
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise ConnectionError(
            f"address: {address} cannot be reached ({error}); does a Ray dashboard listen there?"
        ) from error


@contextlib.contextmanager
def _without_address_variables() -> Iterator[None]:
    """Remove the variables whose address Ray's clients would prefer to the one they are given."""
    kept = {name: os.environ.pop(name) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def ray_errors(address: str, name: str | None = None) -> Iterator[None]:
    """Turn the errors of Ray's client into ``UnknownJob`` for ``name``, ``NotReady``, and ``ConnectionError`` of one
    line."""
    from ray.exceptions import AuthenticationError
    from ray.util.state.exception import RayStateApiException

    try:
        yield
    except AuthenticationError as error:
        raise ConnectionError(
            f"address: {address} refuses the connection: it requires a token; "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's own"
        ) from error
    except OSError as error:
        raise ConnectionError(f"address: {address} does not answer ({type(error).__name__})") from error
    except (RuntimeError, ValueError, RayStateApiException) as error:
        reason = " ".join(str(error).split())
        if name is not None and "status code 404" in reason:
            raise UnknownJob(name) from error
        kind = NotReady if NO_AGENT in reason else ConnectionError
        raise kind(f"address: {address} refuses the request ({reason[:MOST_CHARACTERS]})") from error
