import json
import threading
import time
from pathlib import Path

from pipeline.artifacts.attempts import Attempt, claim, release
from pipeline.artifacts.heartbeat import Heartbeat
from pipeline.storage.directory import Directory

FAST = 0.02


class Stalling(Directory):
    """A storage in which writing below ``.work/stalled`` blocks until the test allows it."""

    def __init__(self, local: Path) -> None:
        super().__init__(local)
        self.let = threading.Event()
        self.request = threading.Event()

    def write(self, name: str, text: str) -> None:
        if name.startswith(".work/stalled/"):
            self.request.set()
            self.let.wait(30)
        super().write(name, text)


def claimed(storage: Directory, key: str) -> Attempt:
    found = claim(storage, "stage", key, {})
    assert isinstance(found, Attempt)
    return found


def beats(attempt: Attempt) -> int:
    """The number of heartbeats in the attempt's lease."""
    found: int = json.loads(attempt.storage.read(f"{attempt.folder}/.lease.json") or "")["beats"]
    return found


def wait_for_signs(attempt: Attempt, count: int) -> None:
    ends = time.monotonic() + 30
    while beats(attempt) < count:
        assert time.monotonic() < ends
        time.sleep(FAST)


def test_an_attempt_gets_heartbeats_until_it_is_stopped(tmp_path: Path) -> None:
    attempt = claimed(Directory(tmp_path), "key")
    warned: list[str] = []
    with Heartbeat(time.time, warned.append, every=FAST) as heartbeat:
        heartbeat.keep_alive(attempt)
        wait_for_signs(attempt, 3)
        heartbeat.stop("key")
        last = beats(attempt)
        time.sleep(5 * FAST)
        assert beats(attempt) == last
    assert warned == []


def test_a_slow_heartbeat_delays_no_other(tmp_path: Path) -> None:
    storage = Stalling(tmp_path)
    stalled, other = claimed(storage, "stalled"), claimed(storage, "other")
    with Heartbeat(time.time, lambda _: None, every=FAST) as heartbeat:
        heartbeat.keep_alive(stalled)
        heartbeat.keep_alive(other)
        assert storage.request.wait(30)
        wait_for_signs(other, beats(other) + 3)
        assert beats(stalled) == 0
        storage.let.set()
        wait_for_signs(stalled, 1)


def test_a_heartbeat_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    storage = Directory(tmp_path)
    attempt = claimed(storage, "key")
    warned = threading.Event()
    warnings: list[str] = []

    def warn(line: str) -> None:
        warnings.append(line)
        warned.set()

    storage.drop(".work/key")
    with Heartbeat(time.time, warn, every=FAST) as heartbeat:
        heartbeat.keep_alive(attempt)
        assert warned.wait(30)
    assert warnings[0].startswith(f"{attempt.out}: no heartbeat written (")


def test_the_claim_is_reported_before_finished_files_are_adopted(tmp_path: Path) -> None:
    """Adopting files may take longer than ``TTL``, so the heartbeat must have started before."""
    storage = Directory(tmp_path)
    first = claimed(storage, "key")
    (first.out / "shard").write_text("finished", "utf-8")
    release(first)
    seen: list[bool] = []
    second = claim(
        storage, "stage", "key", {}, on_claimed=lambda attempt: seen.append((attempt.out / "shard").exists())
    )
    assert isinstance(second, Attempt)
    assert seen == [False]
    assert (second.out / "shard").read_text("utf-8") == "finished"
