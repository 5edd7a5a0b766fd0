"""The outcome of a call in another process: its value, or the exception that it raised."""

import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from ray import cloudpickle

from cluster.resources import WorkerDied


class RemoteTraceback(Exception):
    """The traceback in the worker, as text. It is the cause of an exception that is raised again in the driver."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class Done:
    """The value, pickled, so that the driver gets its own object and no read-only view of shared memory."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The exception, pickled; ``error`` is None where it cannot be. ``trace`` is the formatted traceback."""

    error: bytes | None
    summary: str
    trace: str


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended without an outcome, ``deaths`` times."""

    deaths: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker or group that had the work is gone, and cannot be started again."""

    reason: str


Outcome = Done | Failed | Died | Lost


class WorkerId(NamedTuple):
    """A process of a job. ``generation`` counts the job's starts from 1, and is 0 in a map."""

    generation: int
    rank: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A worker's progress in one job so far: the sums of its ``advance`` and of its ``restore`` calls, and its notes
    from index ``first`` on."""

    total: float = 0.0
    first: int = 0
    notes: tuple[str, ...] = ()
    restored: float = 0.0


@dataclass(frozen=True, slots=True)
class JobResult:
    """The outcome of a job, and the reports of the workers of the generation that ended it."""

    outcome: Outcome
    reports: Mapping[WorkerId, WorkerReport]


def outcome_of(call: Callable[[], Any]) -> Done | Failed:
    """Call it, and return its value or its exception, pickled."""
    try:
        return Done(cloudpickle.dumps(call()))
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        return Failed(_pickled(error), f"{type(error).__name__}: {error}", trace)


def _pickled(error: Exception) -> bytes | None:
    """None for an exception that cannot be pickled, or does not come back as the same type."""
    try:
        data: bytes = cloudpickle.dumps(error)
        return data if type(pickle.loads(data)) is type(error) else None
    except Exception:  # an exception's own pickling may raise anything; its summary is used instead
        return None


def value_or_raise(outcome: Outcome, what: str) -> Any:
    """Return the value, or raise the exception with the worker's traceback as its cause. ``what`` names the work in
    messages. Raises ``WorkerDied`` and ``RuntimeError`` for work that has no outcome of its own."""
    match outcome:
        case Done(value):
            return pickle.loads(value)
        case Failed(trace=trace):
            raise _restored(outcome) from RemoteTraceback(trace)
        case Died(deaths):
            raise WorkerDied(f"{what}: its worker died {deaths} times, for lack of memory or in native code")
        case Lost(reason):
            raise RuntimeError(f"{what}: its workers cannot be started: {reason}")
        case _:
            assert_never(outcome)


def _restored(outcome: Failed) -> Exception:
    try:
        error = pickle.loads(outcome.error or b"")
    except Exception:  # it was not pickled, or its class cannot be imported in this process
        return RuntimeError(outcome.summary)
    return error if isinstance(error, Exception) else RuntimeError(outcome.summary)
