from pathlib import Path

import pytest
from work import (
    Broken,
    Heard,
    broken_loop,
    controller_killer,
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
SLOTS = Resources(workers=1, cpus_per_worker=2, trainings_per_worker=2)


def test_a_group_of_several_slots_gives_what_the_loop_returns_and_its_exception(session: Session) -> None:
    heard = Heard()
    on = session.on(SLOTS, heard)
    before = on.train(whereabouts, None)
    assert on.train(squares, 5) == [0, 1, 4, 9, 16]
    assert (heard.done, heard.notes) == (5, ["squares of 5"])
    with pytest.raises(Broken, match="row 3 is broken"):
        on.train(broken_loop, 3)
    assert on.train(whereabouts, None) == before


def test_a_job_outlives_the_loss_of_ray_trains_controller(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    on = session.on(SLOTS, heard)
    assert on.train(controller_killer, tmp_path) == "second generation"
    assert heard.done == 2


def test_two_workers_share_a_process_group_and_survive_each_other(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    on = session.on(TWO, heard)
    assert on.train(reduced_sum, 10.0) == 21.0
    assert heard.done == 2
    with pytest.raises(Broken, match="row 5 is broken"):
        on.train(rank_one_breaks, 5)
    assert on.train(rank_one_dies_once, tmp_path) == 1.0
