"""What became of a call in another process: its value, or its exception as it was raised there."""

import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, assert_never

from ray import cloudpickle

from cluster.resources import WorkerDied


class RemoteTraceback(Exception):
    """Where an exception came from, as text: the cause of an exception that crossed processes."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class Done:
    """The value, pickled: the driver gets an object of its own, never a read-only view of shared memory."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The exception, pickled; ``error`` is None where it does not pickle. ``trace`` is for people."""

    error: bytes | None
    summary: str
    trace: str


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended without a word, ``deaths`` times."""

    deaths: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Whoever should have done it can do nothing any more."""

    reason: str


Outcome = Done | Failed | Died | Lost


class WorkerId(NamedTuple):
    """Which process of a job speaks: ``life`` counts the job's starts, ``rank`` is the worker's."""

    life: int
    rank: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """All that a worker said of one job up to now: the sum of its advances, and its notes from ``first`` on."""

    total: float = 0.0
    first: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job, and what its workers said of it in the life that ended it."""

    outcome: Outcome
    said: Mapping[WorkerId, WorkerReport]


def attempt(call: Callable[[], Any]) -> Done | Failed:
    """Call, and keep what comes of it."""
    try:
        return Done(cloudpickle.dumps(call()))
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        return Failed(_pickled(error), f"{type(error).__name__}: {error}", trace)


def _pickled(error: Exception) -> bytes | None:
    """None for an exception that cannot make the journey, there and back."""
    try:
        data: bytes = cloudpickle.dumps(error)
        return data if type(pickle.loads(data)) is type(error) else None
    except Exception:  # whatever an exception's own pickling raises; the summary then stands for it
        return None


def settle(outcome: Outcome, what: str) -> Any:
    """The value; or raise the exception, its traceback in the worker as its cause. ``what`` names the work."""
    match outcome:
        case Done(value):
            return pickle.loads(value)
        case Failed(trace=trace):
            raise _restored(outcome) from RemoteTraceback(trace)
        case Died(deaths):
            raise WorkerDied(f"{what}: its worker died {deaths} times, of want of memory or in native code")
        case Lost(reason):
            raise RuntimeError(f"{what}: its workers cannot be started: {reason}")
        case _:
            assert_never(outcome)


def _restored(outcome: Failed) -> Exception:
    try:
        error = pickle.loads(outcome.error or b"")
    except Exception:  # it does not pickle, or its class is importable there and not here
        return RuntimeError(outcome.summary)
    return error if isinstance(error, Exception) else RuntimeError(outcome.summary)
