from dataclasses import replace

import pytest
from run_states import METHODS, ONE, START, batch, finish, half_done, node_run, recorder

from cluster.resources import Resources
from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.format import duration_text, failed_text, hours_number, time_left_text
from pipeline.monitor.progress_line import progress_line
from pipeline.monitor.run_state import RunCapacity, dependants
from pipeline.monitor.summary import Counts, summarize

HOUR = START + 3600
ALONE = RunCapacity(4.0, 0.0, concurrent=False)


def test_nodes_are_counted_by_state_in_all_by_task_and_by_stage() -> None:
    found = summarize(half_done().run_state(), HOUR)
    assert found.counts == Counts(total=252, done=36, running=8, failed=1, blocked=26, held=1, waiting=180)
    tasks = {group.name: group.counts for group in found.tasks}
    assert tasks["mnli"] == Counts(total=28, done=1, failed=1, blocked=26)
    assert tasks["cola"] == Counts(total=28, done=15, waiting=13)
    assert tasks["qqp"] == Counts(total=28, done=2, held=1, waiting=25)
    stages = {group.name: group.counts for group in found.stages}
    assert list(stages) == ["corpus", "finetune", "teach", "distil", "evaluate"]
    assert stages["distil"] == Counts(total=108, done=12, running=8, blocked=12, waiting=76)
    for groups in (found.tasks, found.stages):
        assert sum(group.counts.total for group in groups) == 252


def test_a_failure_has_its_reason_and_the_number_of_nodes_it_blocks() -> None:
    (failure,) = summarize(half_done().run_state(), HOUR).failures
    assert (failure.name, failure.task, failure.why) == ("finetune@mnli", "mnli", "out of memory: <b>2 GiB</b>")
    assert failure.blocks == 2 * len(METHODS) * 3 + 2


def test_dependants_are_the_nodes_built_from_a_node() -> None:
    nodes = batch(tasks=("cola", "rte"), methods=("no-kd",), seeds=1)
    assert dependants(nodes, "teach@rte") == {"distil/no-kd/six/0@rte", "evaluate/no-kd/six/0@rte"}
    assert dependants(nodes, "evaluate/teacher@rte") == set()


def test_hours_are_allotted_cpus_and_gpus_times_hours_run() -> None:
    one = recorder([node_run("teach@a"), node_run("distil/x@a"), node_run("distil/y@a")])
    finish(one, "teach@a", 900)
    one.started("distil/x@a", Resources(workers=2, cpus_per_worker=8, gpus_per_worker=0.5), "0001", START)
    found = summarize(one.run_state(), HOUR)
    assert found.cpu_hours == pytest.approx(4 * 0.25 + 16 * 1.0)
    assert found.gpu_hours == pytest.approx(1 * 0.25 + 1.0 * 1.0)


def test_trainings_that_share_a_worker_use_its_hours_together() -> None:
    shared = Resources(cpus_per_worker=4, gpus_per_worker=1.0, trainings_per_worker=4)
    nodes = [node_run(f"distil/x/{seed}@a") for seed in range(4)]
    one = recorder(nodes)
    for node in nodes:
        one.started(node.key, shared, "0001", START)
    found = summarize(one.run_state(), HOUR)
    assert (found.cpu_hours, found.gpu_hours) == pytest.approx((4.0, 1.0))


def test_a_lost_attempt_counts_towards_the_hours() -> None:
    one = recorder([node_run("distil/x@a")])
    one.started("distil/x@a", ONE, "0001", START)
    one.ended("distil/x@a", "waiting", START + 1800)
    assert summarize(one.run_state(), HOUR).gpu_hours == pytest.approx(0.5)
    one.started("distil/x@a", ONE, "0003", HOUR)
    assert summarize(one.run_state(), HOUR + 1800).gpu_hours == pytest.approx(1.0)


def test_a_run_that_was_stopped_has_its_times_at_the_stop_and_its_running_nodes_wait() -> None:
    one = recorder([node_run("distil/x@a")])
    one.started("distil/x@a", ONE, "0001", START)
    one.close("stopped", START + 60)
    found = summarize(one.run_state(), HOUR)
    assert (found.status, found.elapsed, found.now) == ("stopped", 60.0, START + 60)
    assert found.counts == Counts(total=1, waiting=1)
    assert found.gpu_hours == pytest.approx(60 / 3600)


# --- time left ------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_run_that_is_done() -> None:
    one = recorder([node_run("teach@a")])
    finish(one, "teach@a", 9)
    one.close("done", HOUR)
    assert time_left_text(summarize(one.run_state(), HOUR).left) == "nothing left"


def test_without_records_and_progress_the_time_left_is_unknown() -> None:
    assert summarize(recorder(batch()).run_state(), START).left == TimeLeft(None, 252)


def test_without_concurrency_nodes_run_one_after_another() -> None:
    nodes = [node_run("distil/x@a"), node_run("distil/y@a"), node_run("distil/z@a")]
    known = {"distil/x@a": 10.0, "distil/y@a": 20.0, "distil/z@a": 30.0}
    assert summarize(recorder(nodes, ALONE, **known).run_state(), START).left == TimeLeft(60.0, 0)


@pytest.mark.parametrize(("gpus", "seconds"), [(1.0, 80.0), (2.0, 40.0), (3.0, 30.0), (8.0, 10.0)])
def test_nodes_run_at_once_as_far_as_gpus_allow(gpus: float, seconds: float) -> None:
    nodes = [node_run(f"distil/{number}@a", gpus=1.0) for number in range(8)]
    capacity = RunCapacity(64.0, gpus, concurrent=True)
    left = summarize(recorder(nodes, capacity, **{node.key: 10.0 for node in nodes}).run_state(), START).left
    assert left == TimeLeft(seconds, 0)


@pytest.mark.parametrize(("trainings", "seconds"), [(16, 10.0), (17, 20.0), (33, 30.0)])
def test_trainings_that_share_a_worker_run_at_once_as_far_as_slots_allow(trainings: int, seconds: float) -> None:
    """A worker takes 0.6 of the one GPU, so that a second one does not fit."""
    nodes = [
        replace(node_run(f"distil/x/{seed}@a", cpus=4 / 16, gpus=0.6 / 16), trainings_per_worker=16)
        for seed in range(trainings)
    ]
    one = recorder(nodes, RunCapacity(64.0, 1.0, concurrent=True), **{node.key: 10.0 for node in nodes})
    assert summarize(one.run_state(), START).left == TimeLeft(seconds, 0)


def test_a_node_begins_when_its_inputs_have_ended() -> None:
    nodes = [
        node_run("teach@a"),
        node_run("distil/x@a", "teach@a"),
        node_run("distil/y@a", "teach@a"),
        node_run("corpus@b"),
    ]
    known = {"teach@a": 100.0, "distil/x@a": 30.0, "distil/y@a": 50.0, "corpus@b": 5.0}
    assert summarize(recorder(nodes, **known).run_state(), START).left == TimeLeft(150.0, 0)


def test_the_rate_of_a_running_node_outweighs_its_expected_time() -> None:
    one = recorder([node_run("distil/x@a")], **{"distil/x@a": 1000.0})
    one.started("distil/x@a", ONE, "0001", START)
    assert summarize(one.run_state(), START + 100).left == TimeLeft(900.0, 0)
    one.report_progress("distil/x@a", 400, "rows", 100, "")
    assert summarize(one.run_state(), START + 100).left == TimeLeft(pytest.approx(300.0), 0)


def test_a_node_that_runs_longer_than_expected_has_an_unknown_time_left() -> None:
    one = recorder([node_run("distil/x@a"), node_run("distil/y@a")], **{"distil/x@a": 10.0, "distil/y@a": 40.0})
    one.started("distil/x@a", ONE, "0001", START)
    assert summarize(one.run_state(), START + 11).left == TimeLeft(40.0, 1)


def test_unknown_durations_make_the_time_left_a_lower_bound() -> None:
    nodes = [node_run("teach@a"), node_run("distil/x@a", "teach@a")]
    left = summarize(recorder(nodes, **{"distil/x@a": 90.0}).run_state(), START).left
    assert left == TimeLeft(90.0, 1)
    assert time_left_text(left) == "at least ~2 min left (1 of unknown length)"


def test_a_node_that_another_run_builds_takes_time_and_no_resources() -> None:
    one = recorder([node_run("distil/x@a"), node_run("distil/y@a")], ALONE, **{"distil/x@a": 50.0, "distil/y@a": 60.0})
    one.held("distil/x@a", "another run is building it", START)
    assert summarize(one.run_state(), START).left == TimeLeft(60.0, 0)


def test_failed_and_blocked_nodes_take_no_time() -> None:
    nodes = [node_run("teach@a"), node_run("distil/x@a", "teach@a"), node_run("teach@b")]
    one = recorder(nodes, **{"distil/x@a": 500.0, "teach@b": 7.0})
    one.started("teach@a", ONE, "0001", START)
    one.ended("teach@a", "failed", START, "out of luck")
    one.ended("distil/x@a", "blocked", START, "not run: teach@a failed")
    assert summarize(one.run_state(), START).left == TimeLeft(7.0, 0)


def test_a_node_that_needs_more_than_there_is_runs_alone() -> None:
    nodes = [node_run("distil/x@a", cpus=100.0), node_run("distil/y@a", cpus=1.0)]
    left = summarize(
        recorder(nodes, RunCapacity(4.0, 0.0, True), **{node.key: 10.0 for node in nodes}).run_state(), START
    ).left
    assert left == TimeLeft(20.0, 0)


# --- words ----------------------------------------------------------------------------------------


def test_the_progress_line_leaves_out_counts_of_zero() -> None:
    run_state = replace(half_done().run_state(), expected={node.key: 60.0 for node in batch()})
    line = progress_line(summarize(run_state, HOUR))
    assert line.startswith("36/252 done, 8 running, 1 failed, 26 blocked, 1 with another run; ")
    assert line.endswith(
        "; 3.9 GPU h, 15.6 CPU h; at least ~53 min left (1 of unknown length); "
        "distil/no-kd/six/0@sst2 25%, distil/no-kd/six/1@sst2 25%"
    )
    fresh = progress_line(summarize(recorder(batch()).run_state(), START))
    assert fresh == "0/252 done; 0.00 CPU h; time left unknown"


def test_the_text_of_a_failure_has_the_number_of_blocked_stages() -> None:
    assert failed_text("corpus@a", "no such file", 0) == "corpus@a  no such file"
    assert failed_text("corpus@a", "no such file", 1) == "corpus@a  no such file; 1 stage that needs it is not run"
    assert failed_text("corpus@a", "no such file", 7) == "corpus@a  no such file; 7 stages that need it are not run"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.94, "59.9s"), (60, "1m00s"), (3599, "59m59s"), (7380, "2h03m")]
)
def test_durations_are_in_seconds_minutes_or_hours(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("hours", "text"), [(0.0, "0.00"), (0.123, "0.12"), (3.24, "3.2"), (1234.5, "1,234")])
def test_hours_have_two_digits_or_more(hours: float, text: str) -> None:
    assert hours_number(hours) == text


# --- resumed, paused and stopping runs ------------------------------------------------------------


def test_rows_of_an_earlier_attempt_count_as_done_but_not_towards_the_rate() -> None:
    one = recorder([node_run("distil/x@a")])
    one.started("distil/x@a", ONE, "0002", START)
    one.report_progress("distil/x@a", 10_000, "rows", 0.0, "", restored=6_000, now=START + 10)
    (before,) = summarize(one.run_state(), START + 20).running
    assert (before.amount, before.rate, before.left) == (6_000, 0.0, None)
    one.report_progress("distil/x@a", None, "", 1_000, "", now=START + 100)
    (after,) = summarize(one.run_state(), START + 100).running
    assert (after.amount, after.rate, after.left) == (7_000, 10.0, 300.0)


def test_the_time_until_the_first_report_does_not_count_towards_the_rate() -> None:
    one = recorder([node_run("distil/x@a")])
    one.started("distil/x@a", ONE, "0001", START)
    one.report_progress("distil/x@a", 1_000, "rows", 100, "", now=START + 60)
    one.report_progress("distil/x@a", None, "", 100, "", now=START + 70)
    (found,) = summarize(one.run_state(), START + 70).running
    assert (found.rate, found.left) == (10.0, 80.0)


def test_a_paused_node_uses_nothing_and_its_rate_and_time_left_stay_as_they_are() -> None:
    one = recorder([node_run("embed", gpus=1.0)])
    one.started("embed", ONE, "0001", START)
    one.report_progress("embed", 1_000, "rows", 250, "")
    one.workers_changed("embed", 0.0, START + 100)
    found = summarize(one.run_state(), HOUR)
    (paused,) = found.running
    assert (paused.paused, paused.rate, paused.left) == (True, 2.5, 300.0)
    assert found.counts == Counts(total=1, paused=1)
    assert found.gpu_hours == pytest.approx(100 / 3600)
    assert found.left == TimeLeft(300.0, 0), "it goes on as soon as there is room"
    one.workers_changed("embed", 1.0, HOUR)
    one.report_progress("embed", None, "", 250, "")
    (resumed,) = summarize(one.run_state(), HOUR + 100).running
    assert (resumed.paused, resumed.rate, resumed.left) == (False, 2.5, 200.0)
    one.ended("embed", "done", HOUR + 100)
    assert summarize(one.run_state(), HOUR + 500).gpu_hours == pytest.approx(200 / 3600)


def test_a_node_with_a_part_of_its_workers_uses_that_part() -> None:
    one = recorder([node_run("embed", gpus=1.0)])
    one.started("embed", Resources(workers=8, gpus_per_worker=1.0), "0001", START)
    one.workers_changed("embed", 0.5, START + 1800)
    assert summarize(one.run_state(), HOUR).gpu_hours == pytest.approx(8 * 0.5 + 4 * 0.5)


def test_a_run_that_is_stopping_says_what_it_waits_for_and_shows_no_progress_that_is_given_up() -> None:
    one = recorder([node_run("distil/x@a"), node_run("embed")])
    for key in ("distil/x@a", "embed"):
        one.started(key, ONE, "0001", START)
        one.report_progress(key, 1_000, "rows", 500, "")
    one.stopping()
    one.report_progress("embed", None, "", -500, "")
    found = summarize(one.run_state(), HOUR)
    assert [node.amount for node in found.running] == [500, 500]
    assert progress_line(found) == "stopping, finished work is kept; waiting for distil/x@a, embed"
    one.ended("embed", "waiting", HOUR)
    assert progress_line(summarize(one.run_state(), HOUR)).endswith("; waiting for distil/x@a")
    one.close("stopped", HOUR)
    assert not summarize(one.run_state(), HOUR).stopping
