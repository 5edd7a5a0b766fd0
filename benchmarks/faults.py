"""The kinds of fault that ``reliability`` inflicts, each from outside: signals, a full disk, a proxy before the store.

A kind is a function of a ``Case``. It returns when the accident is over; the case then runs the same command again.
"""

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.driver import Driver, family, start
from benchmarks.proxy import tell

AGENTS = 150.0
"""Seconds within which all of a Ray ends whose head is gone. Its agents try for long to tell the head so."""
PAUSE = 32.0
"""Seconds that a driver is stopped: more than a lease lives, and than lie between two checkpoints."""
LONGEST = 900.0
"""Seconds that a run may take, on a machine that is busy with much else."""
AFTER = "after the end"
"""Where a fault hit that came too late to be one."""


@dataclass
class Case:
    """One fault: where, when, and what has run. ``total`` is the seconds of processors that an undisturbed run takes,
    ``share`` the part of them after which the fault comes. ``url`` is the storage's; ``s3`` that of the proxy."""

    kind: str
    random: random.Random
    folder: Path
    recipe: Path
    url: str
    options: tuple[str, ...]
    environment: Mapping[str, str]
    total: float
    share: float
    s3: str = ""
    drivers: list[Driver] = field(default_factory=list)
    hit: str = ""
    notes: dict[str, object] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None

    def start(self, machine: str = "a") -> Driver:
        """The command, on the machine of that name."""
        log = self.folder / f"{len(self.drivers)}.log"
        own = {"STILLHOUSE_CACHE": str(self.folder / f"cache-{machine}")}
        arguments = ["run", str(self.recipe), "--storage", self.url, *self.options]
        self.drivers.append(start(arguments, log, self.folder, {**self.environment, **own}))
        return self.drivers[-1]

    def come(self, driver: Driver, share: float | None = None) -> bool:
        """Wait for the moment. Whether it came before the run's end."""
        wanted = self.total * (self.share if share is None else share)
        ends = time.monotonic() + LONGEST
        while driver.poll() is None and time.monotonic() < ends:
            if driver.cpu() >= wanted:
                self.hit = self.hit or at_work(driver.said())
                self.before()
                return True
            time.sleep(0.01)
        self.hit = self.hit or AFTER
        return False


def at_work(said: str) -> str:
    """The stages that a run was at, by what it said."""
    lines = [line.split() for line in said.splitlines()]
    begun = [line[1] for line in lines if len(line) > 1 and line[0] == "start"]
    ended = {line[1] for line in lines if len(line) > 1 and line[0] in ("done", "failed")}
    return ", ".join(name for name in begun if name not in ended) or ("between stages" if begun else "before any stage")


# --- the driver -----------------------------------------------------------------------------------


def kill(case: Case) -> None:
    """SIGKILL of the driver."""
    driver = case.start()
    case.come(driver)
    driver.send(signal.SIGKILL)
    driver.wait()


def kill_twice(case: Case) -> None:
    """SIGKILL of the driver, and of the next one."""
    for share in sorted((case.share, case.random.random())):
        driver = case.start()
        case.come(driver, share / 2)
        driver.send(signal.SIGKILL)
        driver.wait()


def terminate(case: Case) -> None:
    """SIGTERM: the run stops cleanly."""
    driver = case.start()
    came = case.come(driver)
    driver.send(signal.SIGTERM)
    code = driver.wait(LONGEST)
    case.notes["stopped"] = code
    # Before it has set its handler, a process ends by the signal.
    case.notes["right"] = code in (130, -signal.SIGTERM) or not came or (code == 0 and case.share > 0.9)


def fenced(case: Case) -> None:
    """SIGSTOP of a driver, long enough that a second takes over; then SIGCONT."""
    first = case.start()
    case.come(first)
    first.send(signal.SIGSTOP)
    try:
        time.sleep(0.2)
        second = case.start()
        ends = time.monotonic() + PAUSE
        while time.monotonic() < ends and second.poll() is None:
            time.sleep(0.1)
    finally:
        first.send(signal.SIGCONT)
    case.notes["codes"] = [first.wait(LONGEST), second.wait(LONGEST)]
    case.notes["right"] = case.notes["codes"] == [0, 0]


def frozen(case: Case) -> None:
    """SIGSTOP for so long that a checkpoint is due; SIGCONT, and SIGKILL soon after."""
    driver = case.start()
    if case.come(driver):
        driver.send(signal.SIGSTOP)
        time.sleep(PAUSE)
        driver.send(signal.SIGCONT)
        case.come(driver, driver.cpu() / case.total + 0.05 * case.random.random())
    case.before()
    driver.send(signal.SIGKILL)
    driver.wait()


def two(case: Case) -> None:
    """Two drivers on one storage, of which one is killed."""
    both = [case.start(), case.start()]
    case.come(both[case.random.randrange(2)], case.share / 2)  # each does about half
    victim = case.random.randrange(2)
    both[victim].send(signal.SIGKILL)
    case.notes["codes"] = [one.wait(LONGEST) for one in both]
    case.notes["right"] = both[1 - victim].code == 0


def full(case: Case) -> None:
    """The disk of the storage is filled up, and freed when the run has ended."""
    driver = case.start()
    came = case.come(driver)
    ballast = Path(case.url).parent / "ballast"
    if came:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
    code = driver.wait(LONGEST)
    ballast.unlink(missing_ok=True)
    case.notes["stopped"] = code
    case.notes["right"] = code in (0, 1, 2) and "Traceback" not in driver.said()


@contextmanager
def disk(folder: Path, size: str = "40m") -> Iterator[Path]:
    """A file system of its own. PermissionError where the user may not mount."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("mounting a file system needs rights that this user lacks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# --- the store ------------------------------------------------------------------------------------


def _unwell(case: Case, how: str, amount: float, seconds: float) -> None:
    driver = case.start()
    if case.come(driver):
        tell(case.s3, how, amount)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and driver.poll() is None:
            time.sleep(0.05)
        tell(case.s3, "well")
    code = driver.wait(LONGEST)
    case.notes["stopped"] = code
    case.notes["right"] = code == 0


def s3_errors(case: Case) -> None:
    """Half of all requests are answered by 500 or 503, for 8 seconds."""
    _unwell(case, "errors", 0.5, 8.0)


def s3_slow(case: Case) -> None:
    """Each request waits for a second, for 10 seconds."""
    _unwell(case, "slow", 1.0, 10.0)


def s3_lost(case: Case) -> None:
    """A third of all answers is cut off, though the store has done what it was asked for, for 8 seconds."""
    _unwell(case, "lost", 0.33, 8.0)


def s3_down(case: Case) -> None:
    """The store cuts off every connection, for 6 seconds."""
    _unwell(case, "down", 0.0, 6.0)


def s3_moved(case: Case) -> None:
    """SIGKILL of the driver; the run goes on on a machine that has none of its files."""
    driver = case.start()
    case.come(driver)
    driver.send(signal.SIGKILL)
    driver.wait()
    case.notes["machine"] = "b"


def s3_two(case: Case) -> None:
    """Two drivers on two machines over one bucket, of which one is killed."""
    both = [case.start("a"), case.start("b")]
    case.come(both[case.random.randrange(2)], case.share / 2)
    victim = case.random.randrange(2)
    both[victim].send(signal.SIGKILL)
    case.notes["codes"] = [one.wait(LONGEST) for one in both]
    case.notes["right"] = both[1 - victim].code == 0


# --- Ray ------------------------------------------------------------------------------------------


ACTORS = ("ray::MapWorker", "ray::WorkerGroup", "ray::ProgressBoard", "ray::TrainController", "ray::RayTrainWorker")
"""Titles of the processes that do the work, and of those that lead it."""


def _named(driver: Driver, *wanted: str) -> list[psutil.Process]:
    """Processes below the driver whose command line begins with, or holds, one of these."""
    found = []
    for process in family(driver.pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            line = " ".join(process.cmdline())
            if any(word in line for word in wanted):
                found.append(process)
    return found


def ray_kill(case: Case) -> None:
    """SIGKILL of the driver of a Ray of its own."""
    driver = case.start()
    case.come(driver)
    mourned = family(driver.pid)[1:] if driver.poll() is None else []
    driver.send(signal.SIGKILL)
    driver.wait()
    case.notes["left"] = gone(mourned)


def ray_worker(case: Case) -> None:
    """SIGKILL of a worker process."""
    driver = case.start()
    if case.come(driver):
        ends = time.monotonic() + 60
        while driver.poll() is None and time.monotonic() < ends:
            workers = _named(driver, *ACTORS)
            if workers:
                victim = case.random.choice(sorted(workers, key=lambda one: one.pid))
                with contextlib.suppress(psutil.NoSuchProcess):
                    case.notes["victim"] = " ".join(victim.cmdline()).strip()
                    case.hit = at_work(driver.said())
                    victim.kill()
                break
            time.sleep(0.02)
        else:
            case.hit = AFTER
    code = driver.wait(LONGEST)
    case.notes["stopped"] = code
    case.notes["right"] = code == 0


def ray_node(case: Case) -> None:
    """SIGKILL of the raylet, which is the node."""
    driver = case.start()
    mourned: list[psutil.Process] = []
    if case.come(driver):
        ends = time.monotonic() + 60
        while driver.poll() is None and time.monotonic() < ends:
            found = [one for one in _named(driver, "raylet/raylet") if Path(one.exe()).name == "raylet"]
            if found:
                mourned = family(driver.pid)[1:]
                case.hit = at_work(driver.said())
                found[0].kill()
                break
            time.sleep(0.02)
    try:
        case.notes["stopped"] = driver.wait(180)
    except TimeoutError:
        case.notes |= {"stopped": "had to be killed after 180 s", "right": False}
        driver.end()
    case.notes["left"] = gone(mourned)


def ray_terminate(case: Case) -> None:
    """SIGTERM of the driver of a Ray of its own."""
    terminate(case)


def gone(processes: list[psutil.Process]) -> int:
    """Wait for them to end by themselves; end the others, and say how many there were."""
    _, left = psutil.wait_procs(processes, timeout=AGENTS)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    return len(left)


Kind = Callable[[Case], None]

DIRECTORY: Mapping[str, Kind] = {
    "kill": kill,
    "kill twice": kill_twice,
    "term": terminate,
    "fenced": fenced,
    "frozen, then kill": frozen,
    "two, one killed": two,
    "disk full": full,
}
BUCKET: Mapping[str, Kind] = {
    "s3 500/503": s3_errors,
    "s3 slow": s3_slow,
    "s3 answers lost": s3_lost,
    "s3 down": s3_down,
    "s3 kill, other machine": s3_moved,
    "s3 two, one killed": s3_two,
}
RAY: Mapping[str, Kind] = {
    "ray kill driver": ray_kill,
    "ray kill worker": ray_worker,
    "ray kill raylet": ray_node,
    "ray term": ray_terminate,
}
KINDS: Mapping[str, Kind] = {**DIRECTORY, **BUCKET, **RAY}
