import json
import threading
from pathlib import Path

from pipeline.monitor.event_log import EventLog

NOON = 1_767_268_800.25


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_an_entry_says_when_what_of_which_node_in_words_and_figures(tmp_path: Path) -> None:
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


def test_events_of_all_nodes_stand_in_one_file_without_what_a_stage_says_while_it_works(tmp_path: Path) -> None:
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


def test_entries_of_many_threads_are_whole(tmp_path: Path) -> None:
    event_log = EventLog(tmp_path, print)

    def speak(name: str) -> None:
        for number in range(100):
            event_log.write("start", name, "x" * 500, number=number)

    threads = [threading.Thread(target=speak, args=(f"node-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert len(entries) == 800


def test_what_cannot_be_written_is_told_once_and_written_again_when_it_can(tmp_path: Path) -> None:
    heard: list[str] = []
    (tmp_path / "logs").write_text("a file where the folder should be", "utf-8")
    event_log = EventLog(tmp_path / "logs", heard.append)
    for _ in range(3):
        event_log.write("start", "a")
    (told,) = heard
    assert told.startswith(f"{tmp_path / 'logs' / 'a.jsonl'}: cannot be written (")
    (tmp_path / "logs").unlink()
    event_log.write("start", "a")
    assert len(lines(tmp_path / "logs" / "a.jsonl")) == 1
