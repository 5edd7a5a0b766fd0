import threading
from pathlib import Path

import pytest
from rays import wait_until
from work import (
    Broken,
    Heard,
    open_deadly,
    open_fragile,
    open_mortal,
    open_pid,
    open_place,
    open_scaler,
    open_sleeper,
    open_slow_pid,
)

from cluster.inline import Inline
from cluster.resources import Resources, WorkerDied
from cluster.session import Session
from cluster.share import WorkerShare


def test_a_map_over_workers_gives_the_results_of_inline(session: Session) -> None:
    there = list(session.on(Resources(workers=2), Heard()).map(open_scaler, 3, range(7)))
    here = list(Inline().on(Resources(), Heard()).map(open_scaler, 3, range(7)))
    assert sorted(there) == here


def test_all_progress_has_arrived_when_a_result_is_yielded(session: Session) -> None:
    heard = Heard()
    seen = [heard.done for _ in session.on(Resources(), heard).map(open_scaler, 5, range(4))]
    assert seen == [5.0, 10.0, 15.0, 20.0]
    assert heard.notes == ["open 5"]


def test_a_process_and_its_open_function_are_kept_for_the_next_map(session: Session) -> None:
    on = session.on(Resources(), Heard())
    first = [result for _, result in on.map(open_pid, "same", [0, 0])]
    second = [result for _, result in on.map(open_pid, "same", [0])]
    pid = first[0][0]
    assert [*first, *second] == [(pid, 0), (pid, 1), (pid, 2)]


def test_a_process_opens_again_for_another_config(session: Session) -> None:
    on = session.on(Resources(), Heard())
    ((_, (first, _)),) = on.map(open_pid, "one", [0])
    ((_, (second, nth)),) = on.map(open_pid, "two", [0])
    assert (second, nth) == (first, 0)


def test_a_process_has_the_threads_of_its_resources(session: Session) -> None:
    ((_, place),) = session.on(Resources(cpus_per_worker=2), Heard()).map(open_place, None, [0])
    assert place == (1, 2, "cpu", "2")


def test_an_exception_arrives_as_itself_with_its_traceback(session: Session) -> None:
    with pytest.raises(Broken, match="row 2 is broken") as caught:
        list(session.on(Resources(), Heard()).map(open_fragile, 2, range(4)))
    assert caught.value.row == 2
    assert "raise Broken(item)" in str(caught.value.__cause__)


def test_the_item_of_a_killed_worker_is_run_again_and_counted_once(session: Session, tmp_path: Path) -> None:
    heard = Heard()
    results = list(session.on(Resources(), heard).map(open_mortal, tmp_path, [4, 5]))
    assert sorted(results) == [(0, 4), (1, 5)]
    assert heard.done == 2


def test_an_item_that_kills_every_worker_is_an_error_that_says_so(session: Session) -> None:
    with pytest.raises(WorkerDied, match="item 0 of 1: its worker died 4 times"):
        list(session.on(Resources(), Heard()).map(open_deadly, None, [0]))


def test_a_map_that_is_left_early_frees_its_workers(session: Session) -> None:
    results = session.on(Resources(workers=2), Heard()).map(open_sleeper, 0.2, range(50))
    next(results)
    results.close()
    assert list(session.on(Resources(cpus_per_worker=2), Heard()).map(open_scaler, 2, [1])) == [(0, 2)]


def test_a_map_gives_up_its_worker_between_two_items_and_goes_on_once_it_has_it_back(session: Session) -> None:
    share, whole = WorkerShare(1), Resources(cpus_per_worker=int(session.capacity().cpus))
    found: list[tuple[int, int]] = []
    on = session.on(whole, Heard(), share=share)

    def collect() -> None:
        for result in on.map(open_sleeper, 0.5, range(4)):
            found.append(result)

    thread = threading.Thread(target=collect)
    thread.start()
    wait_until("an item has ended", lambda: bool(found))
    share.grant(0)
    wait_until("the map has given it up", lambda: share.taken == 0)
    assert list(session.on(whole, Heard()).map(open_scaler, 2, [1])) == [(0, 2)], "other work has all CPUs"
    assert thread.is_alive() and len(found) < 4
    share.grant(1)
    thread.join(60)
    assert sorted(found) == [(item, item) for item in range(4)]


def test_a_map_takes_further_workers_when_they_are_granted(session: Session) -> None:
    if session.capacity().cpus < 2:
        pytest.skip("needs two CPUs")
    share = WorkerShare(2, granted=1)
    results = session.on(Resources(workers=2), Heard(), share=share).map(open_slow_pid, 0.3, range(60))
    first = {next(results)[1] for _ in range(4)}
    assert len(first) == 1
    share.grant(2)
    assert len({pid for _, pid in results}) == 2
