"""What is read out of a run's log is what its view wrote there."""

import io
from pathlib import Path

from project import graph_of, nodes_by_name, record_for, write_plannable_assets
from rich.console import Console

from cluster.resources import Resources
from pipeline.cli.job_log import begun, last_error, stages, tail
from pipeline.monitor.run_view import RunView


def test_the_stages_of_a_run_are_read_back_from_what_its_view_printed(tmp_path: Path) -> None:
    nodes = nodes_by_name(graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs")[1])
    stream = io.StringIO()
    one, two, three, four = list(nodes.values())[:4]
    view = RunView(Console(file=stream, width=40), tmp_path / "logs", [one, two, three, four])
    view.started(one, Resources(), "0001")
    view.finished(one, record_for(one, tmp_path / "assets" / "model"))
    view.started(two, Resources(), "0001")
    view.failed(two, "a long story that goes on " * 10, False)
    view.failed(three, "not run", True)
    view.started(four, Resources(), "0001")
    assert stages("job begins\n" + stream.getvalue()) == {
        one.name: "done",
        two.name: "failed",
        four.name: "running",
    }


def test_the_last_error_is_the_programs_last_message() -> None:
    log = "Running entrypoint\nstillhouse: first\nsomething\nstillhouse: data.source: x; give y\n"
    assert last_error(log) == "data.source: x; give y"
    assert last_error("Traceback\n") == ""


def test_warnings_and_notes_are_no_errors() -> None:
    remarks = "stillhouse: warning: name: x\nstillhouse: note: y\n"
    assert last_error(remarks) == ""
    assert last_error("stillhouse: storage: x; give y\n" + remarks) == "storage: x; give y"


def test_a_driver_has_begun_once_its_log_has_the_line() -> None:
    assert begun("a\nbegun: 3 of 4 artifacts to build, 1 node\nb\n") == "begun: 3 of 4 artifacts to build, 1 node"
    assert begun("not begun: yet\n") == ""


def test_the_tail_of_a_log_is_its_last_lines() -> None:
    assert tail("a\nb\nc\n", 2) == "b\nc"
