from cluster.share import WorkerShare


def test_a_map_takes_no_more_workers_than_are_granted_and_gives_up_the_rest() -> None:
    share = WorkerShare(3)
    assert not share.adjustable
    with share.mapping():
        assert share.adjustable
        assert (share.take(8), share.take(1)) == (3, 0)
        share.grant(1)
        assert share.taken == 3, "until the workers have ended their items"
        assert [share.give_up_one() for _ in range(3)] == [True, True, False]
        assert share.taken == 1
        share.grant(2)
        assert share.take(8) == 1
    assert share.taken == 2


def test_the_seconds_are_those_of_the_clock_without_those_in_which_the_stage_is_paused() -> None:
    now = [100.0]
    share = WorkerShare(2, clock=lambda: now[0])
    with share.mapping():
        now[0] += 10
        share.grant(1)
        now[0] += 10
        share.grant(0)
        now[0] += 1000
        share.grant(2)
        now[0] += 10
    assert share.seconds() == 30.0
    assert share.full_seconds() == 25.0, "the time with all workers: 10 of the seconds had one of two"


def test_work_of_the_driver_counts_in_full_whatever_is_granted() -> None:
    now = [100.0]
    share = WorkerShare(4, clock=lambda: now[0])
    now[0] += 5
    with share.mapping():
        now[0] += 8
        share.grant(0)
        now[0] += 1000
    now[0] += 7
    assert (share.seconds(), share.full_seconds()) == (20.0, 20.0)


def test_a_training_waits_until_all_of_its_workers_are_granted() -> None:
    share = WorkerShare(2, granted=1)
    assert not share.wait_for(2, 0.01)
    share.grant(2)
    assert share.wait_for(2, 0.01)
