"""What became of a call in another process: its value, or its exception as it was raised there."""

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle


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


Outcome = Done | Failed | Died


def attempt(call: Callable[[], Any]) -> Done | Failed:
    """Call, and keep what comes of it."""
    try:
        return Done(cloudpickle.dumps(call()))
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> Failed:
    trace = "".join(traceback.format_exception(error))
    return Failed(_pickled(error), f"{type(error).__name__}: {error}", trace)


def _pickled(error: Exception) -> bytes | None:
    """None for an exception that cannot make the journey, there and back."""
    try:
        data = cloudpickle.dumps(error)
        return data if type(pickle.loads(data)) is type(error) else None
    except Exception:  # whatever an exception's own pickling raises; the summary then stands for it
        return None


def settle(outcome: Done | Failed) -> Any:
    """The value; or raise the exception, its traceback in the worker as its cause."""
    if isinstance(outcome, Done):
        return pickle.loads(outcome.value)
    raise _restored(outcome) from RemoteTraceback(outcome.trace)


def _restored(outcome: Failed) -> Exception:
    if outcome.error is None:
        return RuntimeError(outcome.summary)
    try:
        error = pickle.loads(outcome.error)
    except Exception:  # its class is not importable here, though it was there
        return RuntimeError(outcome.summary)
    return error if isinstance(error, Exception) else RuntimeError(outcome.summary)
