import threading

import pytest
from work import Broken

from cluster.outcomes import Died, Lost, outcome_of, value_or_raise
from cluster.resources import WorkerDied


class Contrary(Exception):
    """Pickles, and cannot be made again: its ``__init__`` wants more than its message."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raising(error: Exception) -> None:
    raise error


def test_a_value_comes_back_as_it_was() -> None:
    assert value_or_raise(outcome_of(lambda: {"rows": [1, 2]}), "job") == {"rows": [1, 2]}


def test_an_exception_comes_back_with_its_type_fields_and_traceback() -> None:
    with pytest.raises(Broken, match="row 4 is broken") as caught:
        value_or_raise(outcome_of(lambda: raising(Broken(4))), "job")
    assert caught.value.row == 4
    assert "raise error" in str(caught.value.__cause__)


@pytest.mark.parametrize("error", [Contrary(1, 2), ValueError("held", threading.Lock())])
def test_an_exception_that_does_not_pickle_comes_back_by_name(error: Exception) -> None:
    with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
        value_or_raise(outcome_of(lambda: raising(error)), "job")
    assert "raise error" in str(caught.value.__cause__)


def test_deaths_and_losses_are_named() -> None:
    with pytest.raises(WorkerDied, match="item 3 of 9: its worker died 4 times"):
        value_or_raise(Died(4), "item 3 of 9")
    with pytest.raises(RuntimeError, match="training: its workers cannot be started: no disk"):
        value_or_raise(Lost("no disk"), "training")
