"""Drivers that tests start by name in separate processes: ``python drivers.py NAME ARGUMENT``."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from work import (
    Broken,
    Heard,
    counting_beside_others,
    endless_loop,
    open_scaler,
    open_sleeper,
    squares,
    until_released,
    whereabouts,
)

from cluster.resources import Closed, Resources
from cluster.session import Session
from cluster.share import WorkerShare

HERE = Path(__file__).parent
SHARED = Resources(cpus_per_worker=3, gpus_per_worker=0.5, trainings_per_worker=3)
"""Of a node of 4 CPUs and one GPU: a second worker of this does not fit beside the first."""
OTHER = Resources(cpus_per_worker=1, gpus_per_worker=0.5, trainings_per_worker=3)
"""A worker of this fits beside one of ``SHARED``."""


def driver(name: str, argument: str, **more: str) -> "subprocess.Popen[str]":
    """Start a driver; ``more`` are variables of its environment."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]), **more}
    return subprocess.Popen(
        [sys.executable, __file__, name, argument],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def quiet(folder: str) -> None:
    """A session from its start to its end, with a training and a map that has given up its worker when it closes."""
    session = Session.open(None, Path(folder) / "ray.log")
    heard = Heard()
    assert dict(session.on(Resources(), heard).map(open_scaler, 2, [1, 2])) == {0: 2, 1: 4}
    assert session.on(Resources(), heard).train(squares, 3) == [0, 1, 4]
    cut: list[str] = []

    def train() -> None:
        try:
            session.on(Resources(), heard).train(endless_loop, None)
        except Closed as error:
            cut.append(str(error))

    def wait_for_a_worker() -> None:
        try:
            list(session.on(Resources(), Heard(), share=WorkerShare(1, granted=0)).map(open_scaler, 2, [1]))
        except Closed as error:
            cut.append(str(error))

    threads = [threading.Thread(target=target) for target in (train, wait_for_a_worker)]
    for thread in threads:
        thread.start()
    while heard.done < 20:
        time.sleep(0.1)
    session.close()
    for thread in threads:
        thread.join()
    print(*cut, sep=", ")


def killed(folder: str) -> None:
    """A session that trains and maps for ever, and prints when both are running."""
    session = Session.open(None, Path(folder) / "ray.log")
    heard = Heard()
    threading.Thread(target=lambda: session.on(Resources(), heard).train(endless_loop, None)).start()
    sleeping = session.on(Resources(), Heard()).map(open_sleeper, 0.1, range(1_000_000))
    while heard.done < 2:
        next(sleeping)
    print("under way", flush=True)
    list(sleeping)


def attached(address: str) -> None:
    """A session in a Ray that others started: it works there, ends its actors, and leaves the Ray."""
    session = Session.open(address, Path("/dev/null"))
    assert dict(session.on(Resources(), Heard()).map(open_scaler, 2, [1, 2])) == {0: 2, 1: 4}
    assert session.on(Resources(), Heard()).train(squares, 3) == [0, 1, 4]
    print(len(session.capacity().nodes))
    session.close()


def sharing(folder: str) -> None:
    """Trainings that share a worker, on a Ray that declares 4 CPUs and one GPU. Prints what happened as JSON."""
    session = Session.open(None, Path(folder) / "ray.log")
    with ThreadPoolExecutor(8) as threads:
        found = {"held": _held(session, threads, Path(folder)), "killed": _killed(session, threads, Path(folder))}
    session.close()
    print(json.dumps(found))


def _held(session: Session, threads: ThreadPoolExecutor, folder: Path) -> dict[str, Any]:
    """Four trainings for a worker of three slots, and one with other resources, while three run. Then one of the three
    fails, and then the others end."""
    heard = [Heard() for _ in range(4)]

    def began() -> list[int]:
        return sorted(int(path.name.split("-")[1]) for path in folder.glob("began-*"))

    def train(number: int) -> tuple[int, int] | str:
        try:
            return session.on(SHARED, heard[number]).train(until_released, (folder, number))
        except Broken as error:
            return str(error)

    running = [threads.submit(train, number) for number in range(3)]
    _wait_until(lambda: len(began()) == 3)
    running.append(threads.submit(train, 3))
    other = session.on(OTHER, Heard()).train(whereabouts, None)["pid"]
    while_full = began()
    (folder / "release-1").touch()
    failed = running[1].result()
    _wait_until(lambda: 3 in began())
    done = [training.done() for training in running]
    for number in (0, 2, 3):
        (folder / f"release-{number}").touch()
    ended = [training.result() for training in running]
    return {
        "while_full": while_full,
        "other": other,
        "failed": failed,
        "done": done,
        "ended": ended,
        "progress": [one.done for one in heard],
        "notes": [one.notes for one in heard],
    }


def _killed(session: Session, threads: ThreadPoolExecutor, folder: Path) -> dict[str, Any]:
    """Three trainings whose process dies."""
    heard = [Heard() for _ in range(3)]

    def train(number: int) -> tuple[int, int, int]:
        return session.on(SHARED, heard[number]).train(counting_beside_others, (folder, number, 3))

    ended = list(threads.map(train, range(3)))
    return {"ended": ended, "progress": [(one.restored, one.done) for one in heard]}


def _wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.05)


if __name__ == "__main__":
    drivers = {"quiet": quiet, "killed": killed, "attached": attached, "sharing": sharing}
    drivers[sys.argv[1]](sys.argv[2])
