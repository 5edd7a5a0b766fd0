"""One item ahead, in one thread, in order."""

import threading

import pytest

from stages.corpus.prefetch import one_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_all_items_come_in_their_order(count: int) -> None:
    assert list(one_ahead(lambda item: 10 * item, range(count))) == [10 * item for item in range(count)]


def test_the_next_item_is_made_while_the_present_one_is_used_and_no_more_than_that() -> None:
    began = [threading.Event() for _ in range(4)]

    def make(item: int) -> int:
        began[item].set()
        return item

    for item in one_ahead(make, range(4)):
        if item < 3:
            assert began[item + 1].wait(10)
        assert not any(event.is_set() for event in began[item + 2 :])


def test_items_are_made_in_one_thread_that_is_not_the_callers_and_ends() -> None:
    made_in = set(one_ahead(lambda _: threading.current_thread(), range(5)))
    (thread,) = made_in
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_an_error_is_raised_when_its_item_comes() -> None:
    def make(item: int) -> float:
        return 1 / (item - 2)

    works = one_ahead(make, range(5))
    assert [next(works), next(works)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(works)


def test_whoever_closes_early_leaves_no_thread() -> None:
    before = threading.active_count()
    works = one_ahead(lambda item: item, range(5))
    assert next(works) == 0
    works.close()
    assert threading.active_count() == before
