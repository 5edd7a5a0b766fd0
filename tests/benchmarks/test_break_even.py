import math

from benchmarks.break_even import break_even, note_of
from benchmarks.pairs import Cost


def turn(**seconds: float) -> dict[str, Cost]:
    return {name: Cost(value, value) for name, value in seconds.items()}


def test_a_dump_is_paid_for_when_what_was_saved_comes_to_its_cost() -> None:
    costs = turn(dump=5.0, read=1.0, live=5.0, stored=3.0)
    epochs = break_even(costs)
    assert epochs == 3.0
    assert 5.0 + 1.0 + epochs * 3.0 == epochs * 5.0


def test_a_dump_that_saves_nothing_is_never_paid_for() -> None:
    assert break_even(turn(dump=5.0, read=0.0, live=3.0, stored=3.0)) == math.inf


def test_where_the_store_loses_it_is_said() -> None:
    note = note_of([turn(dump=5.0, read=1.0, live=5.0, stored=3.0)] * 3)
    assert "1 epoch: the store LOSES 80%" in note
    assert "10 epochs: the store saves 28%" in note
