from pathlib import Path

import pytest
from work import (
    Broken,
    Heard,
    broken_loop,
    controller_killer,
    counting_loop,
    open_fragile,
    open_pid,
    rank_one_breaks,
    rank_one_dies_once,
    reduced_sum,
    squares,
    whereabouts,
)

from cluster.resources import Resources
from cluster.session import Session

ONE = Resources(workers=1, cpus_per_worker=2)
TWO = Resources(workers=2)


def test_training_gives_what_the_loop_returns_and_all_its_progress(session: Session) -> None:
    heard = Heard()
    assert session.on(ONE, heard).train(squares, 5) == [0, 1, 4, 9, 16]
    assert (heard.done, heard.notes) == (5, ["squares of 5"])


def test_one_group_serves_job_after_job(session: Session) -> None:
    on = session.on(ONE, Heard())
    assert on.train(whereabouts, None) == on.train(whereabouts, None)


def test_an_exception_fails_its_job_and_leaves_the_group(session: Session) -> None:
    on = session.on(ONE, Heard())
    before = on.train(whereabouts, None)
    with pytest.raises(Broken, match="row 3 is broken") as caught:
        on.train(broken_loop, 3)
    assert "raise Broken(row)" in str(caught.value.__cause__)
    assert on.train(whereabouts, None) == before


def test_a_map_on_one_worker_is_done_in_an_idle_group_of_one(session: Session) -> None:
    on = session.on(ONE, Heard())
    place = on.train(whereabouts, None)
    results = dict(on.map(open_pid, "in the group", [0, 0]))
    assert results == {0: (place["pid"], 0), 1: (place["pid"], 1)}
    with pytest.raises(Broken, match="row 1 is broken"):
        list(on.map(open_fragile, 1, range(3)))
    assert on.train(whereabouts, None) == place


def test_a_job_outlives_the_loss_of_ray_trains_controller(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    on = session.on(ONE, heard)
    assert on.train(controller_killer, tmp_path) == "second generation"
    assert heard.done == 2


def test_a_killed_worker_is_started_again_and_goes_on(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    assert session.on(ONE, heard).train(counting_loop, tmp_path) == (6, 2)
    assert heard.done == 6


def test_two_workers_share_a_process_group_and_survive_each_other(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    on = session.on(TWO, heard)
    assert on.train(reduced_sum, 10.0) == 21.0
    assert heard.done == 2
    with pytest.raises(Broken, match="row 5 is broken"):
        on.train(rank_one_breaks, 5)
    assert on.train(rank_one_dies_once, tmp_path) == 1.0
