import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from house import graph_of, names, record_of, write_paper_ground
from rich.console import Console

from pipeline.graph import Node
from pipeline.lease import this_process
from pipeline.view import PLAIN_EVERY, View, clock_text


@pytest.fixture
def node(tmp_path: Path) -> Node:
    _, graph = graph_of(write_paper_ground(tmp_path / "ground"), tmp_path / "runs")
    return names(graph)["distil/no-kd/two/0@tiny"]


@pytest.fixture
def heard() -> StringIO:
    return StringIO()


@pytest.fixture
def view(heard: StringIO, tmp_path: Path) -> View:
    return View(Console(file=heard, width=200), tmp_path / "logs", 3)


def said(heard: StringIO) -> list[str]:
    return heard.getvalue().splitlines()


def test_a_node_has_a_line_at_its_start_and_one_at_its_end_with_its_last_note(
    view: View, heard: StringIO, node: Node, tmp_path: Path
) -> None:
    view.started(node)
    ear = view.listener(node)
    ear.note("epoch 1/2")
    ear.note("epoch 2/2  accuracy 90.0")
    out = tmp_path / "0001"
    out.mkdir()
    view.finished(node, replace(record_of(node, out), seconds=75.0))
    assert said(heard) == [
        "start  distil/no-kd/two/0@tiny",
        "done   distil/no-kd/two/0@tiny  1m15s  epoch 2/2  accuracy 90.0",
    ]


def test_what_a_stage_warns_of_is_told_when_it_ends(view: View, heard: StringIO, node: Node, tmp_path: Path) -> None:
    view.started(node)
    view.finished(node, record_of(node, tmp_path, warnings=["structure: the rows look alike in layers 1"]))
    assert said(heard)[-1].endswith(f"{node.name}  structure: the rows look alike in layers 1")


def test_notes_and_lines_are_kept_in_the_nodes_log(view: View, node: Node, tmp_path: Path) -> None:
    ear = view.listener(node)
    ear.note("epoch 1/2")
    ear.log("3 parts were there already")
    log = (tmp_path / "logs" / "distil.no-kd.two.0@tiny.log").read_text("utf-8").splitlines()
    assert [line.split(maxsplit=1)[1] for line in log] == ["epoch 1/2", "3 parts were there already"]


def test_what_went_wrong_is_kept_whole(view: View, node: Node) -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError as error:
        log = view.keep_traceback(node, error).read_text("utf-8")
    assert "Traceback (most recent call last)" in log
    assert log.endswith("ValueError: line one\nline two\n")


def test_progress_is_told_in_a_pipe_now_and_then(view: View, heard: StringIO, node: Node) -> None:
    view.started(node)
    ear = view.listener(node)
    ear.expect(1000, "rows")
    ear.advance(100)
    assert said(heard) == ["start  distil/no-kd/two/0@tiny"], "not at once"
    line = view.lines[node.key]
    line.said -= PLAIN_EVERY + 1
    line.began -= 10
    ear.advance(150)
    ear.advance(1)
    (told,) = said(heard)[1:]
    assert told.startswith("       distil/no-kd/two/0@tiny  250/1,000 rows  25/s  ")
    assert told.endswith("s left")


def test_the_live_table_tells_share_amount_rate_and_time_left(view: View, node: Node) -> None:
    view.started(node)
    ear = view.listener(node)
    ear.expect(1000, "rows")
    ear.advance(250)
    ear.note("epoch 1/2")
    view.lines[node.key].began -= 10
    out = StringIO()
    Console(file=out, width=200).print(view.table())
    head, line = out.getvalue().splitlines()
    assert head.startswith("0/3 done, 1 running  ")
    assert line.split() == [
        "distil/no-kd/two/0@tiny",
        "25%",
        "250/1,000",
        "rows",
        "25",
        "rows/s",
        "30.0s",
        "left",
        "epoch",
        "1/2",
    ]


def test_progress_of_a_node_that_has_ended_is_passed_over(view: View, heard: StringIO, node: Node) -> None:
    view.started(node)
    view.failed(node, "out of luck", blocked=False)
    view.listener(node).advance(10)
    assert view.lines == {}
    assert said(heard)[1:] == ["FAIL   distil/no-kd/two/0@tiny  out of luck"]


def test_a_node_that_is_not_run_is_no_failure_of_its_own(view: View, heard: StringIO, node: Node) -> None:
    view.failed(node, "not run: corpus@tiny failed", blocked=True)
    assert said(heard) == ["skip   distil/no-kd/two/0@tiny  not run: corpus@tiny failed"]


def test_who_holds_a_node_is_told_once(view: View, heard: StringIO, node: Node) -> None:
    owner = this_process()
    for _ in range(3):
        view.held(node, owner)
    who = f"process {owner.pid} on {owner.host}"
    assert said(heard) == [f"wait   distil/no-kd/two/0@tiny  ({who} is building it)"]


def test_what_another_run_built_counts_as_done(view: View, node: Node) -> None:
    view.taken(node)
    assert view.done == 1


def test_text_that_looks_like_markup_is_told_as_it_is(view: View, heard: StringIO, node: Node) -> None:
    view.failed(node, "row 3: [/b] is no label", blocked=False)
    assert said(heard) == ["FAIL   distil/no-kd/two/0@tiny  row 3: [/b] is no label"]


def test_many_threads_may_speak_at_once(view: View, node: Node) -> None:
    view.started(node)
    ear = view.listener(node)
    threads = [threading.Thread(target=lambda: [ear.advance(1) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert view.lines[node.key].done == 4000


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.94, "59.9s"), (60, "1m00s"), (3599, "59m59s"), (7380, "2h03m")]
)
def test_times_are_told_as_people_do(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
