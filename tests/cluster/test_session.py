import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from drivers import driver
from work import Heard, open_pid, open_scaler, squares, whereabouts

from cluster.ray_internals import SESSION_FOLDER_OPTION
from cluster.resources import Capacity, Resources
from cluster.session import Session, session_folder_option

HERE = Path(__file__).parent


def descendants(pid: int) -> set[int]:
    """The descendants of this process, from ps, without zombies."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in lines.splitlines()]
    parents = {int(row[0]): int(row[1]) for row in rows if not row[2].startswith("Z")}
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= new
    return found


def alive(pids: set[int]) -> dict[int, str]:
    """Those that are still running, with their names, without zombies."""
    lines = subprocess.run(["ps", "-ewwo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in lines.splitlines()]
    return {int(row[0]): row[2] for row in rows if int(row[0]) in pids and not row[1].startswith("Z")}


def test_capacity_is_that_of_this_machine(session: Session) -> None:
    capacity = session.capacity()
    assert [node.cpus for node in capacity.nodes] == [os.cpu_count()]
    assert capacity.nodes[0].memory > 1e8
    assert capacity == Capacity.fixed(*capacity.nodes), "a Ray of our own does not grow"


def test_our_ray_listens_on_loopback_and_asks_for_a_token(session: Session) -> None:
    mine = {str(pid) for pid in descendants(os.getpid())}
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    local = [line.split()[3] for line in lines if any(f"pid={pid}," in line for pid in mine)]
    assert local
    assert all("127.0.0.1" in address for address in local)
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_maps_and_trainings_make_room_for_each_other(session: Session) -> None:
    """Both need all CPUs, and each finds them held by idle processes of other resources."""
    cpus = os.cpu_count() or 1
    for _ in range(2):
        single = session.on(Resources(workers=cpus), Heard())
        assert sorted(single.map(open_scaler, 2, [4, 5])) == [(0, 8), (1, 10)]
        assert session.on(Resources(cpus_per_worker=cpus), Heard()).train(squares, 2) == [0, 1]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two stages side by side need two CPUs")
def test_two_threads_map_and_train_side_by_side(session: Session) -> None:
    results: dict[str, object] = {}

    def train() -> None:
        results["train"] = [session.on(Resources(), Heard()).train(squares, n) for n in (2, 3)]

    def map_() -> None:
        results["map"] = [dict(session.on(Resources(), Heard()).map(open_scaler, n, [1, 2])) for n in (2, 3)]

    threads = [threading.Thread(target=train), threading.Thread(target=map_)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=200)
    assert results == {"train": [[0, 1], [0, 1, 4]], "map": [{0: 2, 1: 4}, {0: 3, 1: 6}]}


def test_idle_processes_can_be_released(session: Session) -> None:
    on = session.on(Resources(), Heard())
    ((_, (pid, _)),) = on.map(open_pid, None, [0])
    trained = on.train(whereabouts, None)["pid"]
    session.release()
    deadline = time.monotonic() + 30
    while (left := alive({pid, trained})) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An empty folder for a driver's temporary files, with a path that is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_session_says_nothing_on_the_terminal_and_closing_ends_what_waits_and_leaves_no_folder(
    tmp_path: Path, temporary: Path
) -> None:
    process = driver("quiet", str(tmp_path), TMPDIR=str(temporary))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "the session is closed, the session is closed\n", "")
    assert list(temporary.iterdir()) == []


def test_a_killed_driver_leaves_no_worker_and_no_server_and_a_folder_that_the_next_one_removes(tmp_path: Path) -> None:
    """Ray's two agents of a node, which hold nothing, try to report the loss for a minute, then end too. The path of
    the driver's temporary folder is too long for Ray's sockets, so its folder lies in /tmp."""
    temporary = tmp_path / "temporary-files-of-the-driver"
    temporary.mkdir()
    process = driver("killed", str(tmp_path), TMPDIR=str(temporary))
    assert process.stdout is not None
    assert process.stdout.readline() == "under way\n"
    below = descendants(process.pid)
    assert len(below) > 5
    (name,) = set(re.findall("/tmp/stillhouse-ray-[a-z0-9_]{8}", " ".join(alive(below).values())))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 40
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    while (left := set(alive(below).values()) - agents) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    assert list(temporary.iterdir()) == []
    left_behind = Path(name)  # any session that begins meanwhile may have removed it
    code = "from cluster.temporary import remove_abandoned; remove_abandoned()"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not left_behind.exists()


def test_a_folder_with_too_long_a_path_leaves_ray_its_default_folder_with_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    longest, longer = Path(f"/{'ü' * 19}x"), Path(f"/{'ü' * 20}")
    assert session_folder_option(longest) == {SESSION_FOLDER_OPTION: str(longest)}
    assert capsys.readouterr().err == ""
    assert session_folder_option(longer / "folder") == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stillhouse: warning: TMPDIR: the path {longer} is too long for Ray's sockets")
    assert session_folder_option(longer) == {}


def test_a_ray_of_our_own_has_no_dashboard(session: Session) -> None:
    assert session.dashboard == ""


def test_a_ray_of_our_own_has_the_processes_that_a_run_uses_and_no_others(session: Session) -> None:
    session.release()
    lines = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert any("raylet/raylet" in line for line in lines)
    assert [line for line in lines if "monitor.py" in line or "dashboard.py" in line] == []


def test_a_session_attaches_to_a_running_ray_and_leaves_it_running(session: Session) -> None:
    session.release()
    address = ray.get_runtime_context().gcs_address
    process = driver("attached", "auto", RAY_ADDRESS=address)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "1\n", "")
    assert list(session.on(Resources(), Heard()).map(open_scaler, 2, [1])) == [(0, 2)]


def test_a_wrong_token_is_refused_in_one_line(session: Session) -> None:
    address = ray.get_runtime_context().gcs_address
    process = driver("attached", address, RAY_AUTH_TOKEN="0" * 64)
    _, err = process.communicate(timeout=60)
    assert err.splitlines()[-1].startswith(
        f"ConnectionError: address: {address} refuses the connection: it requires a token"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "http://127.0.0.1:8265", "6379"])
def test_an_address_that_cannot_be_reached_is_named(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=f"^address: {address} ") as caught:
        Session.open(address, tmp_path / "ray.log")
    assert "\n" not in str(caught.value)
