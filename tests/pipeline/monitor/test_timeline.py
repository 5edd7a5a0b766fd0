"""The picture of a run's time: lanes, and the critical path."""

from itertools import pairwise

from run_states import ONE, START, finish, node_run, recorder

from pipeline.monitor.run_state import Recorder
from pipeline.monitor.timeline import critical_path, timeline

NODES = (
    node_run("corpus@cola"),
    node_run("finetune@cola", "corpus@cola"),
    node_run("bank"),
    node_run("evaluate/teacher@cola", "finetune@cola"),
    node_run("distil/no-kd/six/0@cola", "finetune@cola"),
)


def ran(**seconds: tuple[float, float]) -> Recorder:
    """The run of ``NODES`` in which each role of ``seconds`` ran from so many seconds after the start to so many."""
    one = recorder(NODES)
    for node in NODES:
        if node.role in seconds:
            begin, end = seconds[node.role]
            finish(one, node.key, end - begin, START + begin)
    return one


def test_stages_that_ran_at_once_are_in_different_lanes_and_a_lane_that_is_free_is_used_again() -> None:
    one = ran(corpus=(0, 10), bank=(2, 30), finetune=(10, 50), evaluate=(50, 60), distil=(50, 90))
    found = timeline(one.run_state(), START + 90)
    assert found is not None and found.seconds == 90
    lanes = [[(bar.node.role, bar.begin, bar.end) for bar in lane] for lane in found.lanes]
    assert sorted(len(lane) for lane in lanes) == [2, 3]
    for lane in lanes:
        assert all(before[2] <= after[1] for before, after in pairwise(lane))
    assert sum(len(lane) for lane in lanes) == len(NODES)


def test_the_critical_path_leads_from_the_first_stage_to_the_last_to_end_and_names_the_wait_for_room() -> None:
    one = ran(corpus=(0, 10), bank=(2, 30), finetune=(10, 50), evaluate=(50, 60), distil=(60, 90))
    path = critical_path(one.run_state().node_runs, START + 90)
    assert [(node.role, waited) for node, waited in path] == [("corpus", 0.0), ("finetune", 0.0), ("distil", 10.0)]
    found = timeline(one.run_state(), START + 90)
    assert found is not None
    assert {bar.node.role for lane in found.lanes for bar in lane if bar.critical} == {"corpus", "finetune", "distil"}


def test_a_stage_that_runs_still_reaches_to_now_and_one_that_has_not_begun_is_not_shown() -> None:
    one = ran(corpus=(0, 10))
    one.started("bank", ONE, "0001", START + 5)
    found = timeline(one.run_state(), START + 25)
    assert found is not None
    assert sorted((bar.node.role, bar.begin, bar.end) for lane in found.lanes for bar in lane) == [
        ("bank", 5.0, 25.0),
        ("corpus", 0.0, 10.0),
    ]
    assert timeline(recorder(NODES).run_state(), START + 25) is None


def test_stages_too_short_to_be_seen_are_counted() -> None:
    one = ran(corpus=(0, 10), bank=(11, 11.5), finetune=(20, 9_000))
    found = timeline(one.run_state(), START + 9_000)
    assert found is not None and found.left_out == 1
    assert [bar.node.role for lane in found.lanes for bar in lane] == ["corpus", "finetune"]
