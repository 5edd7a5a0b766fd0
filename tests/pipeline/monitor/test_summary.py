from dataclasses import replace

import pytest
from run_states import METHODS, ONE, START, batch, finish, half_done, node_run, recorder

from cluster.resources import Resources
from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.format import amount_text, clock_text, failed_text, left_text
from pipeline.monitor.progress_line import plain_line
from pipeline.monitor.run_state import Room, dependants
from pipeline.monitor.summary import Counts, summary

HOUR = START + 3600
ALONE = Room(4.0, 0.0, concurrent=False)


def test_nodes_are_counted_by_how_they_stand_in_all_by_task_and_by_stage() -> None:
    told = summary(half_done().run_state(), HOUR)
    assert told.counts == Counts(total=252, done=36, running=8, failed=1, blocked=26, held=1, waiting=180)
    tasks = {group.name: group.counts for group in told.tasks}
    assert tasks["mnli"] == Counts(total=28, done=1, failed=1, blocked=26)
    assert tasks["cola"] == Counts(total=28, done=15, waiting=13)
    assert tasks["qqp"] == Counts(total=28, done=2, held=1, waiting=25)
    stages = {group.name: group.counts for group in told.stages}
    assert list(stages) == ["corpus", "finetune", "teach", "distil", "evaluate"]
    assert stages["distil"] == Counts(total=108, done=12, running=8, blocked=12, waiting=76)
    for groups in (told.tasks, told.stages):
        assert sum(group.counts.total for group in groups) == 252


def test_a_failure_tells_why_and_how_many_nodes_it_costs() -> None:
    (fault,) = summary(half_done().run_state(), HOUR).faults
    assert (fault.name, fault.task, fault.why) == ("finetune@mnli", "mnli", "out of memory: <b>2 GiB</b>")
    assert fault.blocks == 2 * len(METHODS) * 3 + 2


def test_only_what_is_made_of_a_node_depends_on_it() -> None:
    nodes = batch(tasks=("cola", "rte"), methods=("no-kd",), seeds=1)
    assert dependants(nodes, "teach@rte") == {"distil/no-kd/six/0@rte", "evaluate/no-kd/six/0@rte"}
    assert dependants(nodes, "evaluate/teacher@rte") == set()


def test_hours_are_what_nodes_were_given_times_how_long_they_ran() -> None:
    one = recorder([node_run("teach@a"), node_run("distil/x@a"), node_run("distil/y@a")])
    finish(one, "teach@a", 900)
    one.started("distil/x@a", Resources(workers=2, cpus_per_worker=8, gpus_per_worker=0.5), "0001", START)
    told = summary(one.run_state(), HOUR)
    assert told.cpu_hours == pytest.approx(4 * 0.25 + 16 * 1.0)
    assert told.gpu_hours == pytest.approx(1 * 0.25 + 1.0 * 1.0)


def test_an_attempt_that_was_lost_counts_for_what_it_had() -> None:
    one = recorder([node_run("distil/x@a")])
    one.started("distil/x@a", ONE, "0001", START)
    one.ended("distil/x@a", "waiting", START + 1800)
    assert summary(one.run_state(), HOUR).gpu_hours == pytest.approx(0.5)
    one.started("distil/x@a", ONE, "0003", HOUR)
    assert summary(one.run_state(), HOUR + 1800).gpu_hours == pytest.approx(1.0)


def test_time_stands_still_for_a_run_that_has_ended_and_what_it_left_off_waits() -> None:
    one = recorder([node_run("distil/x@a")])
    one.started("distil/x@a", ONE, "0001", START)
    one.close("stopped", START + 60)
    told = summary(one.run_state(), HOUR)
    assert (told.end, told.elapsed, told.now) == ("stopped", 60.0, START + 60)
    assert told.counts == Counts(total=1, waiting=1)
    assert told.gpu_hours == pytest.approx(60 / 3600)


# --- time left ------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_run_that_is_done() -> None:
    one = recorder([node_run("teach@a")])
    finish(one, "teach@a", 9)
    one.close("done", HOUR)
    assert left_text(summary(one.run_state(), HOUR).left) == "nothing left"


def test_nothing_known_means_unknown() -> None:
    assert summary(recorder(batch()).run_state(), START).left == TimeLeft(None, 252)


def test_one_place_takes_one_node_after_another() -> None:
    nodes = [node_run("distil/x@a"), node_run("distil/y@a"), node_run("distil/z@a")]
    known = {"distil/x@a": 10.0, "distil/y@a": 20.0, "distil/z@a": 30.0}
    assert summary(recorder(nodes, ALONE, **known).run_state(), START).left == TimeLeft(60.0, 0)


@pytest.mark.parametrize(("gpus", "seconds"), [(1.0, 80.0), (2.0, 40.0), (3.0, 30.0), (8.0, 10.0)])
def test_nodes_run_side_by_side_as_far_as_they_fit(gpus: float, seconds: float) -> None:
    nodes = [node_run(f"distil/{number}@a", gpus=1.0) for number in range(8)]
    room = Room(64.0, gpus, concurrent=True)
    left = summary(recorder(nodes, room, **{node.key: 10.0 for node in nodes}).run_state(), START).left
    assert left == TimeLeft(seconds, 0)


def test_what_needs_another_begins_when_that_has_ended() -> None:
    nodes = [
        node_run("teach@a"),
        node_run("distil/x@a", "teach@a"),
        node_run("distil/y@a", "teach@a"),
        node_run("corpus@b"),
    ]
    known = {"teach@a": 100.0, "distil/x@a": 30.0, "distil/y@a": 50.0, "corpus@b": 5.0}
    assert summary(recorder(nodes, **known).run_state(), START).left == TimeLeft(150.0, 0)


def test_a_running_node_ends_at_its_own_rate_and_not_as_was_expected() -> None:
    one = recorder([node_run("distil/x@a")], **{"distil/x@a": 1000.0})
    one.started("distil/x@a", ONE, "0001", START)
    assert summary(one.run_state(), START + 100).left == TimeLeft(900.0, 0)
    one.heard("distil/x@a", 400, "rows", 100, "")
    assert summary(one.run_state(), START + 100).left == TimeLeft(pytest.approx(300.0), 0)


def test_a_node_that_takes_longer_than_expected_is_unknown_from_then_on() -> None:
    one = recorder([node_run("distil/x@a"), node_run("distil/y@a")], **{"distil/x@a": 10.0, "distil/y@a": 40.0})
    one.started("distil/x@a", ONE, "0001", START)
    assert summary(one.run_state(), START + 11).left == TimeLeft(40.0, 1)


def test_what_is_unknown_makes_of_the_time_left_the_least_there_is() -> None:
    nodes = [node_run("teach@a"), node_run("distil/x@a", "teach@a")]
    left = summary(recorder(nodes, **{"distil/x@a": 90.0}).run_state(), START).left
    assert left == TimeLeft(90.0, 1)
    assert left_text(left) == "at least ~2 min left (1 of unknown length)"


def test_what_another_run_builds_takes_time_and_no_room() -> None:
    one = recorder([node_run("distil/x@a"), node_run("distil/y@a")], ALONE, **{"distil/x@a": 50.0, "distil/y@a": 60.0})
    one.held("distil/x@a", "another run is building it", START)
    assert summary(one.run_state(), START).left == TimeLeft(60.0, 0)


def test_what_failed_and_what_it_blocks_takes_no_time() -> None:
    nodes = [node_run("teach@a"), node_run("distil/x@a", "teach@a"), node_run("teach@b")]
    one = recorder(nodes, **{"distil/x@a": 500.0, "teach@b": 7.0})
    one.started("teach@a", ONE, "0001", START)
    one.ended("teach@a", "failed", START, "out of luck")
    one.ended("distil/x@a", "blocked", START, "not run: teach@a failed")
    assert summary(one.run_state(), START).left == TimeLeft(7.0, 0)


def test_a_request_beyond_the_room_is_taken_to_run_alone() -> None:
    nodes = [node_run("distil/x@a", cpus=100.0), node_run("distil/y@a", cpus=1.0)]
    left = summary(recorder(nodes, Room(4.0, 0.0, True), **{node.key: 10.0 for node in nodes}).run_state(), START).left
    assert left == TimeLeft(20.0, 0)


# --- words ----------------------------------------------------------------------------------------


def test_the_summary_in_one_line_leaves_out_what_is_none() -> None:
    run_state = replace(half_done().run_state(), expected={node.key: 60.0 for node in batch()})
    line = plain_line(summary(run_state, HOUR))
    assert line.startswith("36/252 done, 8 running, 1 failed, 26 blocked, 1 with another run; ")
    assert line.endswith(
        "; 3.9 GPU h, 15.6 CPU h; at least ~53 min left (1 of unknown length); "
        "distil/no-kd/six/0@sst2 25%, distil/no-kd/six/1@sst2 25%"
    )
    fresh = plain_line(summary(recorder(batch()).run_state(), START))
    assert fresh == "0/252 done; 0.00 CPU h; time left unknown"


def test_a_failure_that_costs_others_says_how_many() -> None:
    assert failed_text("corpus@a", "no such file", 0) == "corpus@a  no such file"
    assert failed_text("corpus@a", "no such file", 1) == "corpus@a  no such file; 1 that needs it is not run"
    assert failed_text("corpus@a", "no such file", 7) == "corpus@a  no such file; 7 that need it are not run"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.94, "59.9s"), (60, "1m00s"), (3599, "59m59s"), (7380, "2h03m")]
)
def test_times_are_told_as_people_do(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(("hours", "text"), [(0.0, "0.00"), (0.123, "0.12"), (3.24, "3.2"), (1234.5, "1,234")])
def test_hours_have_as_many_digits_as_mean_something(hours: float, text: str) -> None:
    assert amount_text(hours) == text
