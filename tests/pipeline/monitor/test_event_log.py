import json
import threading
from pathlib import Path

from pipeline.monitor.event_log import EventLog

NOON = 1_767_268_800.25


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_an_entry_has_time_event_node_text_and_figures(tmp_path: Path) -> None:
    event_log = EventLog(tmp_path / "logs", print, lambda: NOON)
    event_log.write("done", "distil/x@a", "epoch 2/2", key="k", attempt="0002", seconds=1.5, rows=10)
    (entry,) = lines(tmp_path / "logs" / "distil.x@a.jsonl")
    assert entry == {
        "time": "2026-01-01T12:00:00.250+00:00",
        "level": "info",
        "event": "done",
        "node": "distil/x@a",
        "key": "k",
        "attempt": "0002",
        "text": "epoch 2/2",
        "figures": {"seconds": 1.5, "rows": 10},
    }


def test_one_file_has_the_events_of_all_nodes_without_notes_log_lines_progress_and_tracebacks(tmp_path: Path) -> None:
    event_log = EventLog(tmp_path, print)
    event_log.write("begin")
    event_log.write("start", "a")
    for event in ("note", "log", "progress", "error"):
        event_log.write(event, "a", "words")  # type: ignore[arg-type]
    event_log.write("failed", "a", "out of luck", "error")
    event_log.write("end")
    assert [entry["event"] for entry in lines(tmp_path / "events.jsonl")] == ["begin", "start", "failed", "end"]
    assert [entry["event"] for entry in lines(tmp_path / "a.jsonl")] == [
        "start",
        "note",
        "log",
        "progress",
        "error",
        "failed",
    ]
    assert [line.split(maxsplit=1)[1] for line in (tmp_path / "a.log").read_text("utf-8").splitlines()] == ["words"] * 2


def test_an_entry_is_one_line_whatever_its_text(tmp_path: Path) -> None:
    EventLog(tmp_path, print).write("error", "a", 'two\nlines, "quoted", é and \u2028')
    (entry,) = lines(tmp_path / "a.jsonl")
    assert entry["text"] == 'two\nlines, "quoted", é and \u2028'


def test_entries_written_by_many_threads_are_whole_lines(tmp_path: Path) -> None:
    event_log = EventLog(tmp_path, print)

    def write_entries(name: str) -> None:
        for number in range(100):
            event_log.write("start", name, "x" * 500, number=number)

    threads = [threading.Thread(target=write_entries, args=(f"node-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert len(entries) == 800


def test_a_log_that_cannot_be_written_is_one_warning_and_later_entries_are_written(tmp_path: Path) -> None:
    warnings: list[str] = []
    (tmp_path / "logs").write_text("a file where the folder should be", "utf-8")
    event_log = EventLog(tmp_path / "logs", warnings.append)
    for _ in range(3):
        event_log.write("start", "a")
    (warning,) = warnings
    assert warning.startswith(f"{tmp_path / 'logs' / 'a.jsonl'}: cannot be written (")
    (tmp_path / "logs").unlink()
    event_log.write("start", "a")
    assert len(lines(tmp_path / "logs" / "a.jsonl")) == 1
