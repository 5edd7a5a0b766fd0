"""The one error a user is meant to read: a wrong request, found before work starts."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class RequestError(ValueError):
    """The request is wrong. The message is one line: the field, its value, and what would be right."""


def first_line(error: BaseException) -> str:
    """An error in one line: its first, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean x?' where something known is near, else the list of what is known."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"


@contextmanager
def refused(where: str) -> Iterator[None]:
    """A ValueError of a stage's own checks, as the request error that it is."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, OSError) as error:
        raise RequestError(f"{where}: {error}") from error
