"""Prepares the next item in a thread while the current one is used."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(make: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
    """``make(item)`` for every item, in order, computed in a thread that is one item ahead of the consumer. An error of
    ``make`` is raised at its item. Close the generator to end the thread early."""
    with ThreadPoolExecutor(1, "prefetch") as thread:
        coming = [thread.submit(make, item) for item in items[:1]]
        for item in items[1:]:
            result = coming.pop().result()
            coming.append(thread.submit(make, item))
            yield result
        for last in coming:
            yield last.result()
