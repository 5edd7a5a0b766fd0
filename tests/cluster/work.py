"""Stage code for the tests: what workers run."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.resources import Worker


@dataclass
class Heard:
    """A ``Listener`` that keeps all progress, notes and lines."""

    done: float = 0.0
    restored: float = 0.0
    expected: list[tuple[float, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def expect(self, total: float, unit: str) -> None:
        self.expected.append((total, unit))

    def advance(self, amount: float) -> None:
        self.done += amount

    def restore(self, amount: float) -> None:
        self.restored += amount

    def note(self, text: str) -> None:
        self.notes.append(text)

    def log(self, line: str) -> None:
        self.lines.append(line)


class Broken(ValueError):
    """An exception of the stage's own, with a field."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row

    def __str__(self) -> str:
        return f"row {self.row} is broken"


def open_scaler(factor: int, worker: Worker) -> Callable[[int], int]:
    worker.note(f"open {factor}")

    def scale(item: int) -> int:
        for _ in range(10):
            worker.advance(0.5)
        return item * factor

    return scale


def open_pid(config: object, worker: Worker) -> Callable[[object], tuple[int, int]]:
    """(process, how many times this worker was opened for an item)."""
    items = iter(range(1_000))
    return lambda _: (os.getpid(), next(items))


def open_place(config: object, worker: Worker) -> Callable[[object], tuple[int, int, str, str | None]]:
    return lambda _: (worker.world_size, worker.threads, worker.device, os.environ.get("OMP_NUM_THREADS"))


def open_fragile(deadly: int, worker: Worker) -> Callable[[int], int]:
    def do(item: int) -> int:
        if item == deadly:
            raise Broken(item)
        return item

    return do


def open_mortal(folder: Path, worker: Worker) -> Callable[[int], int]:
    """Kills its process at the first item that finds no mark of an earlier death."""

    def do(item: int) -> int:
        worker.advance(1)
        mark = folder / f"died-{item}"
        if not mark.exists():
            mark.touch()
            time.sleep(0.5)  # so that the advance is under way
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return do


def open_deadly(config: object, worker: Worker) -> Callable[[int], int]:
    def do(item: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return item

    return do


def open_sleeper(seconds: float, worker: Worker) -> Callable[[int], int]:
    def do(item: int) -> int:
        time.sleep(seconds)
        return item

    return do


def open_slow_pid(seconds: float, worker: Worker) -> Callable[[object], int]:
    def do(_: object) -> int:
        time.sleep(seconds)
        return os.getpid()

    return do


def squares(n: int, worker: Worker) -> list[int]:
    worker.note(f"squares of {n}")
    for _ in range(n):
        worker.advance(1)
    return [i * i for i in range(n)]


def whereabouts(config: object, worker: Worker) -> dict[str, Any]:
    return {"pid": os.getpid(), "rank": worker.rank, "world": worker.world_size, "device": worker.device}


def surroundings(modules: Sequence[str], worker: Worker) -> dict[str, Any]:
    """The process, its threads, and which of the modules are loaded."""
    return {
        "pid": os.getpid(),
        "threads": worker.threads,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "loaded": [name for name in modules if name in sys.modules],
    }


def broken_loop(row: int, worker: Worker) -> None:
    raise Broken(row)


def counting_loop(folder: Path, worker: Worker) -> tuple[int, int]:
    """Counts to 6 with a checkpoint a step, and kills its process at 3, once. (count, generations)."""
    lives = folder / "lives"
    lives.write_text(str(int(lives.read_text()) + 1 if lives.exists() else 1))
    at = folder / "checkpoint"
    count = int(at.read_text()) if at.exists() else 0
    worker.advance(count)
    while count < 6:
        count += 1
        worker.advance(1)
        at.write_text(str(count))
        if count == 3 and lives.read_text() == "1":
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
    return count, int(lives.read_text())


def deadly_loop(folder: Path, worker: Worker) -> None:
    """Counts its lives in a file, and kills its process."""
    lives = folder / "lives"
    lives.write_text(str(int(lives.read_text()) + 1 if lives.exists() else 1))
    worker.advance(1)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def controller_killer(folder: Path, worker: Worker) -> str:
    """In its first generation, kills the process of Ray Train's controller, and waits for its own end."""
    import psutil

    worker.advance(2)
    if (folder / "killed").exists():
        return "second generation"
    (folder / "killed").touch()
    time.sleep(0.5)
    for process in psutil.Process(os.getppid()).children():  # those of the raylet
        if process.name().startswith("ray::TrainContr"):
            process.kill()
    time.sleep(60)
    return "never"


def endless_loop(config: object, worker: Worker) -> None:
    while True:
        time.sleep(0.1)
        worker.advance(1)


def until_released(training: tuple[Path, int], worker: Worker) -> tuple[int, int]:
    """Advances by its number, and ends when the file ``release-NUMBER`` is there; the training 1 fails then. Returns
    (process, thread)."""
    folder, number = training
    worker.note(f"training {number}")
    worker.advance(number)
    (folder / f"began-{number}").touch()
    while not (folder / f"release-{number}").exists():
        time.sleep(0.05)
    if number == 1:
        raise Broken(number)
    return os.getpid(), threading.get_ident()


def counting_beside_others(training: tuple[Path, int, int], worker: Worker) -> tuple[int, int, int]:
    """Counts to 6 with a checkpoint at 3. There it waits for the other trainings, and training 0 kills the process of
    them all, once. Returns (lives, the count at which its last life began, process)."""
    folder, number, trainings = training
    lives, at = folder / f"lives-{number}", folder / f"checkpoint-{number}"
    lives.write_text(str(int(lives.read_text()) + 1 if lives.exists() else 1))
    began = int(at.read_text()) if at.exists() else 0
    worker.restore(began)
    for count in range(began + 1, 7):
        worker.advance(1)
        if count == 3:
            draft = folder / f"draft-{number}"
            draft.write_text(str(count))
            draft.replace(at)
            while number or len(list(folder.glob("checkpoint-*"))) < trainings:
                time.sleep(0.05)
            time.sleep(0.5)  # so that the advances are under way
            os.kill(os.getpid(), signal.SIGKILL)
    return int(lives.read_text()), began, os.getpid()


def reduced_sum(value: float, worker: Worker) -> float:
    """The sum over ranks of value + rank, by torch's process group."""
    import torch
    import torch.distributed as dist

    tensor = torch.tensor([value + worker.rank])
    dist.all_reduce(tensor)
    worker.advance(1)
    return float(tensor)


def rank_one_breaks(row: int, worker: Worker) -> float:
    """Rank 1 raises while rank 0 waits for it in a collective."""
    if worker.rank == 1:
        raise Broken(row)
    return reduced_sum(0.0, worker)


def rank_one_dies_once(folder: Path, worker: Worker) -> float:
    if worker.rank == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return reduced_sum(0.0, worker)
