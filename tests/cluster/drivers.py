"""Drivers that tests start by name in separate processes: ``python drivers.py NAME ARGUMENT``."""

import sys
import threading
import time
from pathlib import Path

from work import Heard, endless_loop, open_scaler, open_sleeper, squares

from cluster.resources import Closed, Resources
from cluster.session import Session
from cluster.share import WorkerShare


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


if __name__ == "__main__":
    {"quiet": quiet, "killed": killed, "attached": attached}[sys.argv[1]](sys.argv[2])
