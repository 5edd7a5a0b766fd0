"""What the next step needs is made while the present one computes."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Item], Made], items: Sequence[Item]) -> Generator[Made, None, None]:
    """``make`` of every item, in order, in one thread that is one item ahead of whoever asks. An error of ``make`` is
    raised when its item's turn comes. Close it to end the thread early."""
    with ThreadPoolExecutor(1, "prefetch") as thread:
        coming = [thread.submit(make, item) for item in items[:1]]
        for item in items[1:]:
            made = coming.pop().result()
            coming.append(thread.submit(make, item))
            yield made
        for last in coming:
            yield last.result()
