import json
import re
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, record_for, write_plannable_assets
from rich.console import Console

from cluster.resources import Resources
from pipeline.artifacts.attempts import this_process
from pipeline.graph.nodes import Graph, Node
from pipeline.monitor.run_state import RunCapacity, RunInfo
from pipeline.monitor.run_view import PLAIN_EVERY, PROGRESS_EVERY, PUBLISH_AT_LEAST_EVERY, RunSettings, RunView
from pipeline.monitor.status import read_runs
from pipeline.plan.estimate import DurationEstimator


class Clock:
    """A clock that stands until the test moves it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs")[1]


@pytest.fixture
def node(graph: Graph) -> Node:
    return nodes_by_name(graph)["distil/no-kd/two/0@tiny"]


@pytest.fixture
def output() -> StringIO:
    return StringIO()


@pytest.fixture
def view(output: StringIO, tmp_path: Path, graph: Graph, clock: Clock) -> RunView:
    return RunView(Console(file=output, width=200), tmp_path / "logs", graph.nodes, clock=clock)


def begin(view: RunView, node: Node) -> None:
    view.started(node, Resources(), "0001")


def printed_lines(output: StringIO) -> list[str]:
    return output.getvalue().splitlines()


def test_a_line_is_printed_when_a_node_starts_and_when_it_ends_with_its_last_note(
    view: RunView, output: StringIO, node: Node, tmp_path: Path
) -> None:
    begin(view, node)
    listener = view.listener(node)
    listener.note("epoch 1/2")
    listener.note("epoch 2/2  accuracy 90.0")
    out = tmp_path / "0001"
    out.mkdir()
    view.finished(node, replace(record_for(node, out), seconds=75.0))
    assert printed_lines(output) == [
        "start  distil/no-kd/two/0@tiny",
        "done   distil/no-kd/two/0@tiny  1m15s  epoch 2/2  accuracy 90.0",
    ]


def test_the_warnings_of_a_stage_are_printed_when_it_ends(
    view: RunView, output: StringIO, node: Node, tmp_path: Path
) -> None:
    begin(view, node)
    view.finished(node, record_for(node, tmp_path, warnings=["structure: the rows look alike in layers 1"]))
    assert printed_lines(output)[-1].endswith(f"{node.name}  structure: the rows look alike in layers 1")


def test_notes_and_lines_are_kept_in_the_nodes_log(view: RunView, node: Node, tmp_path: Path) -> None:
    listener = view.listener(node)
    listener.note("epoch 1/2")
    listener.log("3 parts were there already")
    log = (tmp_path / "logs" / "distil.no-kd.two.0@tiny.log").read_text("utf-8").splitlines()
    assert [line.split(maxsplit=1)[1] for line in log] == ["epoch 1/2", "3 parts were there already"]


def test_the_whole_traceback_is_kept(view: RunView, node: Node) -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError as error:
        log = view.write_traceback(node, error).read_text("utf-8")
    assert "Traceback (most recent call last)" in log
    assert log.endswith("ValueError: line one\nline two\n")


def test_the_summary_is_printed_to_a_pipe_at_intervals(
    view: RunView, output: StringIO, node: Node, clock: Clock
) -> None:
    begin(view, node)
    listener = view.listener(node)
    listener.expect(1000, "rows")
    listener.advance(250)
    clock.now += PLAIN_EVERY - 1
    view.tick()
    assert printed_lines(output) == ["start  distil/no-kd/two/0@tiny"], "not at once"
    clock.now += 1
    for _ in range(3):
        view.tick()
    (message,) = printed_lines(output)[1:]
    assert message == (
        "       0/8 done, 1 running; 0.01 CPU h; at least ~2 min left (7 of unknown length); "
        "distil/no-kd/two/0@tiny 25%"
    )


def test_the_live_table_shows_share_amount_rate_and_time_left(view: RunView, node: Node, clock: Clock) -> None:
    begin(view, node)
    listener = view.listener(node)
    listener.expect(1000, "rows")
    listener.advance(250)
    listener.note("epoch 1/2")
    clock.now += 10
    out = StringIO()
    Console(file=out, width=200).print(view.table())
    head, costs, _, line = out.getvalue().splitlines()
    assert head == "10.0s  0/8 done, 1 running"
    assert costs == "0.00 CPU h used; at least ~30 s left (7 of unknown length)"
    assert line.split("  ") == [
        "distil/no-kd/two/0@tiny",
        "25%",
        "250/1,000 rows",
        "25 rows/s",
        "30.0s left",
        "epoch 1/2",
    ]


def test_progress_of_a_node_that_has_ended_is_ignored(view: RunView, output: StringIO, node: Node) -> None:
    begin(view, node)
    view.failed(node, "out of luck", blocked=False)
    view.listener(node).advance(10)
    assert view.summary().running == ()
    assert printed_lines(output)[1:] == [
        "FAIL   distil/no-kd/two/0@tiny  out of luck; 1 stage that needs it is not run"
    ]


def test_a_failure_says_once_how_many_it_blocks(view: RunView, output: StringIO, graph: Graph) -> None:
    node = nodes_by_name(graph)
    view.failed(node["teach@tiny"], "out of luck", blocked=False)
    for name in ("distil/vanilla-kd/two/0@tiny", "evaluate/vanilla-kd/two/0@tiny"):
        view.failed(node[name], "not run: teach@tiny failed", blocked=True)
    assert printed_lines(output) == ["FAIL   teach@tiny  out of luck; 2 stages that need it are not run"]
    assert (view.summary().counts.failed, view.summary().counts.blocked) == (1, 2)


def test_the_process_that_builds_a_node_is_printed_once(view: RunView, output: StringIO, node: Node) -> None:
    owner = this_process()
    for _ in range(3):
        view.held(node, owner)
    who = f"process {owner.pid} on {owner.host}"
    assert printed_lines(output) == [f"wait   distil/no-kd/two/0@tiny  ({who} is building it)"]


def test_what_another_run_built_counts_as_done(view: RunView, node: Node) -> None:
    view.taken(node)
    assert view.summary().counts.done == 1


def test_text_that_looks_like_markup_is_printed_unchanged(view: RunView, output: StringIO, node: Node) -> None:
    view.failed(node, "row 3: [/b] is no label", blocked=False)
    assert printed_lines(output) == [
        "FAIL   distil/no-kd/two/0@tiny  row 3: [/b] is no label; 1 stage that needs it is not run"
    ]


def test_many_threads_may_report_at_once(view: RunView, node: Node) -> None:
    begin(view, node)
    listener = view.listener(node)
    threads = [threading.Thread(target=lambda: [listener.advance(1) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert view.summary().running[0].amount == 4000


def test_progress_is_logged_at_intervals(view: RunView, node: Node, clock: Clock) -> None:
    begin(view, node)
    listener = view.listener(node)
    listener.expect(1000, "rows")
    for _ in range(30):
        listener.advance(10)
        clock.now += PROGRESS_EVERY / 10
    entries = [json.loads(line) for line in view.event_log.path(node.name, "jsonl").read_text("utf-8").splitlines()]
    amounts = [entry["figures"]["amount"] for entry in entries if entry["event"] == "progress"]
    assert amounts == [110, 210]
    assert {entry["attempt"] for entry in entries} == {"0001"}


# --- status and page ------------------------------------------------------------------------------


@pytest.fixture
def published(output: StringIO, tmp_path: Path, graph: Graph, clock: Clock) -> RunView:
    info = RunInfo("run-1", "tiny", clock(), storage=str(tmp_path))
    settings = RunSettings(info, RunCapacity(4.0), folder=tmp_path / ".runs" / "run-1")
    return RunView(Console(file=output, width=200), tmp_path / ".logs" / "run-1", graph.nodes, settings, clock)


def test_the_status_is_written_after_a_change_and_at_intervals(
    published: RunView, tmp_path: Path, node: Node, clock: Clock
) -> None:
    def updated() -> float:
        clock.now += 1
        published.tick()
        return read_runs(tmp_path, clock.now)[0].updated

    first = updated()
    begin(published, node)
    assert [updated() - first for _ in range(4)] == [0, 0, 3, 3], "a change is published within three seconds"
    assert [updated() - first for _ in range(int(PUBLISH_AT_LEAST_EVERY))][-2:] == [3 + PUBLISH_AT_LEAST_EVERY] * 2


def test_a_status_that_cannot_be_written_is_one_warning_and_does_not_end_the_run(
    published: RunView, output: StringIO, tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / ".runs").write_text("a file where the folder should be", "utf-8")
    with published.live():
        for _ in range(3):
            clock.now += PUBLISH_AT_LEAST_EVERY
            published.tick()
    (message,) = [line for line in printed_lines(output) if "cannot be written" in line]
    assert message.startswith(f"{tmp_path / '.runs' / 'run-1'}: the run's status cannot be written (")
    assert message.endswith("; the run goes on")


def test_the_path_of_the_page_is_printed_once_to_a_pipe(
    published: RunView, output: StringIO, tmp_path: Path, clock: Clock
) -> None:
    for _ in range(3):
        clock.now += PLAIN_EVERY
        published.tick()
    message = [line for line in printed_lines(output) if "HTML page" in line]
    assert message == [f"       HTML page: {tmp_path / '.runs' / 'run-1' / 'index.html'}"]


def test_a_page_in_a_bucket_is_printed_as_a_url(published: RunView, output: StringIO, clock: Clock) -> None:
    url = "s3://bucket/runs/.runs/run-1/index.html"
    published.settings = replace(published.settings, page=url)
    clock.now += PLAIN_EVERY
    published.tick()
    assert f"       HTML page: {url}" in printed_lines(output)


def test_the_status_records_how_a_run_ended(published: RunView, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), published.live():
        raise KeyboardInterrupt
    assert read_runs(tmp_path, clock.now)[0].status == "stopped"
    events = (tmp_path / ".logs" / "run-1" / "events.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["event"] for line in events] == ["begin", "end"]
    assert json.loads(events[-1])["text"] == "stopped"


def test_the_page_links_to_existing_logs(published: RunView, tmp_path: Path, node: Node) -> None:
    with published.live():
        begin(published, node)
        published.listener(node).note("epoch 1/2")
    folder = tmp_path / ".runs" / "run-1"
    page = (folder / "index.html").read_text("utf-8")
    (link,) = re.findall('href="([^"]+)"', page)
    assert "epoch 1/2" in (folder / link).resolve().read_text("utf-8")
    assert (folder / read_runs(tmp_path)[0].document["logs"]).resolve() == published.event_log.logs


def test_records_that_cannot_be_read_leave_the_time_left_unknown(
    published: RunView, output: StringIO, tmp_path: Path
) -> None:
    def broken() -> DurationEstimator:
        raise OSError("the storage is gone")

    published.settings = replace(published.settings, read_durations=broken)
    with published.live():
        pass
    assert printed_lines(output) == [f"{tmp_path}: the time left cannot be estimated (the storage is gone)"]
    assert published.summary().left.seconds is None
