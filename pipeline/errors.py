"""The error for a wrong request, which is found before work starts, and text for error messages."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class RequestError(ValueError):
    """The request is wrong. The message is one line for the user: the field, its value, and what would be right."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean x?`` if one of the ``known`` names is similar to ``name``, else a list of them all."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"


@contextmanager
def refused(where: str) -> Iterator[None]:
    """Re-raise a ValueError or OSError of the block as RequestError, with ``where`` (a field, a file) before it."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, OSError) as error:
        raise RequestError(f"{where}: {error}") from error
