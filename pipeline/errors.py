"""The error for a wrong request, which is found before work starts, and text for error messages."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SIMILAR = 0.6
"""The likeness from which on a name is suggested for another; 1 is that of equal names."""


LONGEST = 1200
"""Characters of the text of another error in a message."""


class RequestError(ValueError):
    """The request is wrong. The message is one line for the user: the field, its value, and what would be right."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean x?`` with the most similar of the ``known`` names, else a list of them all.

    Upper case, ``_`` for ``-``, and a ``-kd`` at the end do not count: papers write ALP-KD for what is called ``alp``.
    """
    names = sorted(set(known))
    likeness = {other: max(_ratio(name, other), _ratio(_stem(name), _stem(other))) for other in names}
    best = max(names, key=lambda other: (likeness[other], other), default="")
    return f"did you mean {best}?" if best and likeness[best] >= SIMILAR else f"known: {', '.join(names)}"


def _ratio(one: str, other: str) -> float:
    """The likeness of two texts, from 0 to 1."""
    return difflib.SequenceMatcher(None, one, other).ratio()


def _stem(name: str) -> str:
    folded = name.lower().replace("_", "-")
    return folded.removesuffix("-kd") or folded


def bounded(text: str) -> str:
    """A text for a message: with its middle left out where it is longer than ``LONGEST`` characters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


@contextmanager
def refused(where: str) -> Iterator[None]:
    """Re-raise a ValueError or OSError of the block as RequestError, with ``where`` (a field, a file) before it."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, OSError) as error:
        raise RequestError(f"{where}: {bounded(str(error))}") from error
