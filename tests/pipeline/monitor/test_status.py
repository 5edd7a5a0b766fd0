import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from disk import mounted
from project import start, write_project
from run_states import ABOUT, START, half_done
from waiting import log_contains, wait_for

from pipeline.artifacts.attempts import this_process
from pipeline.monitor.run_state import RunState
from pipeline.monitor.status import GONE_AFTER, publish, read_runs, status_document
from pipeline.monitor.summary import summarize

HOUR = START + 3600


def write_status(storage: Path, run_state: RunState, now: float = HOUR) -> Path:
    folder = storage / ".runs" / run_state.info.run
    publish(folder, status_document(summarize(run_state, now), run_state, "../../.logs/run"), "<p>page</p>")
    return folder


def test_a_status_reads_back_as_it_was_written(tmp_path: Path) -> None:
    folder = write_status(tmp_path, half_done().run_state())
    (status,) = read_runs(tmp_path, HOUR + 5)
    assert (status.run, status.recipe, status.status) == ("20260101-000000-1", "glue", "running")
    assert (status.started, status.updated, status.folder) == (START, HOUR, folder)
    document = status.document
    assert document["counts"] == {
        "total": 252,
        "done": 36,
        "running": 8,
        "failed": 1,
        "blocked": 26,
        "held": 1,
        "waiting": 180,
        "paused": 0,
    }
    assert document["tasks"]["mnli"]["failed"] == 1
    assert document["failures"][0]["name"] == "finetune@mnli"
    assert len(document["nodes"]) == 252
    assert document["gpu_hours"] > 0
    assert document["left"]["text"].startswith("at least")


def test_runs_are_listed_the_latest_first(tmp_path: Path) -> None:
    for number in (2, 3, 1):
        info = replace(ABOUT, run=f"run-{number}", started=START + number)
        write_status(tmp_path, replace(half_done().run_state(), info=info))
    assert [status.run for status in read_runs(tmp_path, HOUR)] == ["run-3", "run-2", "run-1"]
    assert read_runs(tmp_path / "nowhere", HOUR) == []


def test_a_running_status_without_updates_for_long_means_gone_and_an_ended_one_does_not(tmp_path: Path) -> None:
    one = half_done()
    write_status(tmp_path, one.run_state())
    assert read_runs(tmp_path, HOUR + GONE_AFTER - 1)[0].status == "running"
    assert read_runs(tmp_path, HOUR + GONE_AFTER + 1)[0].status == "gone"
    one.close("stopped", HOUR)
    write_status(tmp_path, one.run_state())
    assert read_runs(tmp_path, HOUR + 1e6)[0].status == "stopped"


def test_a_run_whose_process_is_dead_is_gone_at_once(tmp_path: Path) -> None:
    if not this_process().boot:
        pytest.skip("this system does not tell which processes live")
    for started, end in ((this_process().started, "running"), ("1", "gone")):
        owner = replace(this_process(), started=started)
        write_status(tmp_path, replace(half_done().run_state(), info=replace(ABOUT, owner=owner)))
        assert read_runs(tmp_path, HOUR)[0].status == end


def test_a_status_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    folder = write_status(tmp_path, half_done().run_state())
    whole = json.loads((folder / "status.json").read_text("utf-8"))
    for text in ("", "{", "[]", "{}", json.dumps({**whole, "format": 99}), json.dumps({**whole, "state": "asleep"})):
        (folder / "status.json").write_text(text, "utf-8")
        assert read_runs(tmp_path, HOUR) == []


def test_a_full_disk_leaves_the_previous_status_whole(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "64k") as disk:
        folder = write_status(disk, replace(half_done().run_state(), node_runs=()))
        before = (folder / "status.json").read_bytes()
        with pytest.raises(OSError, match="No space left"):
            publish(folder, {"text": "x" * 100_000}, "<p>page</p>")
        assert (folder / "status.json").read_bytes() == before
        assert sorted(path.name for path in folder.iterdir()) == ["index.html", "status.json"]


@pytest.mark.parametrize(
    ("sign", "end"), [(signal.SIGINT, "stopped"), (signal.SIGTERM, "stopped"), (signal.SIGKILL, "gone")]
)
def test_the_status_records_what_ended_a_run(sign: int, end: str, assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets, teacher={"model": str(assets / "model"), "finetune": {"epochs": 600}})
    process = start("run", str(project.recipe), "--storage", str(project.storage), "--inline")
    wait_for(log_contains(project, "finetune@tiny", "epoch 2/600"), process)
    wait_for(lambda: bool(read_runs(project.storage)), process)
    (status,) = read_runs(project.storage)
    assert (status.status, status.document["owner"]["pid"]) == ("running", process.pid)
    os.kill(process.pid, sign)
    process.communicate()
    (status,) = read_runs(project.storage)
    assert status.status == end
    if end == "stopped":
        assert status.document["counts"]["running"] == 0
        assert status.document["counts"]["done"] == 1
