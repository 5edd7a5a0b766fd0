from pathlib import Path

import pytest
from work import (
    Broken,
    Heard,
    broken_loop,
    counting_loop,
    deadly_loop,
    open_fragile,
    open_pid,
    squares,
    whereabouts,
)

from cluster.resources import Resources, WorkerDied
from cluster.session import Session

ONE = Resources(workers=1, cpus_per_worker=2)


def test_training_gives_what_the_loop_returns_and_all_its_progress(session: Session) -> None:
    heard = Heard()
    assert session.on(ONE, heard).train(squares, 5) == [0, 1, 4, 9, 16]
    assert (heard.done, heard.notes) == (5, ["squares of 5"])


def test_one_process_serves_training_after_training(session: Session) -> None:
    on = session.on(ONE, Heard())
    assert on.train(whereabouts, None) == on.train(whereabouts, None)


def test_an_exception_fails_its_training_and_leaves_the_process(session: Session) -> None:
    on = session.on(ONE, Heard())
    before = on.train(whereabouts, None)
    with pytest.raises(Broken, match="row 3 is broken") as caught:
        on.train(broken_loop, 3)
    assert "raise Broken(row)" in str(caught.value.__cause__)
    assert on.train(whereabouts, None) == before


def test_a_map_is_done_in_the_idle_process_of_a_training(session: Session) -> None:
    on = session.on(ONE, Heard())
    place = on.train(whereabouts, None)
    results = dict(on.map(open_pid, "in the process", [0, 0]))
    assert results == {0: (place["pid"], 0), 1: (place["pid"], 1)}
    with pytest.raises(Broken, match="row 1 is broken"):
        list(on.map(open_fragile, 1, range(3)))
    assert on.train(whereabouts, None) == place


def test_a_killed_worker_is_started_again_and_goes_on(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    assert session.on(ONE, heard).train(counting_loop, tmp_path) == (6, 2)
    assert heard.done == 6


def test_a_training_that_kills_every_process_is_an_error_that_says_so(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(WorkerDied, match="training: its worker died 4 times"):
        session.on(ONE, heard).train(deadly_loop, tmp_path)
    assert (tmp_path / "lives").read_text() == "4"
    assert heard.done == 0


def test_a_training_in_the_process_of_a_map_drops_what_the_map_has_opened(session: Session) -> None:
    on = session.on(ONE, Heard())
    ((_, (pid, nth)),) = on.map(open_pid, "before a training", [0])
    assert nth == 0
    assert on.train(whereabouts, None)["pid"] == pid
    assert dict(on.map(open_pid, "before a training", [0])) == {0: (pid, 0)}
