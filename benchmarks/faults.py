"""The kinds of fault that ``reliability`` causes, each from outside: signals, a full disk, a proxy before the store.

A kind is a function of a ``Case``. It returns when the fault is over; the same command is then run again.
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
"""Seconds within which all processes of a Ray end whose head is gone. Its agents try for long to reach the head."""
PAUSE = 32.0
"""Seconds for which a driver is stopped: longer than a lease is valid, and than the time between two checkpoints."""
LONGEST = 900.0
"""Seconds that a run may take on a busy machine."""
AFTER = "after the end"
"""The recorded place of a fault that came after the run's end, and does not count."""


@dataclass
class Case:
    """One fault, and the runs that belong to it. ``total`` is the processor seconds of an undisturbed run, ``share``
    the part of them after which the fault comes. ``url`` is that of the storage, ``s3`` that of the proxy before it."""

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
        """Start the command as on the machine of that name, which has a cache of its own."""
        log = self.folder / f"{len(self.drivers)}.log"
        own = {"STILLHOUSE_CACHE": str(self.folder / f"cache-{machine}")}
        arguments = ["run", str(self.recipe), "--storage", self.url, *self.options]
        self.drivers.append(start(arguments, log, self.folder, {**self.environment, **own}))
        return self.drivers[-1]

    def wait_for_moment(self, driver: Driver, share: float | None = None) -> bool:
        """Wait until the run has used its share of processor seconds. Returns whether that was before its end."""
        wanted = self.total * (self.share if share is None else share)
        ends = time.monotonic() + LONGEST
        while driver.poll() is None and time.monotonic() < ends:
            if driver.cpu() >= wanted:
                self.hit = self.hit or running_stages(driver.output())
                self.before()
                return True
            time.sleep(0.01)
        self.hit = self.hit or AFTER
        return False


def running_stages(output: str) -> str:
    """The nodes that a run had started and not ended, from its output."""
    lines = [line.split() for line in output.splitlines()]
    begun = [line[1] for line in lines if len(line) > 1 and line[0] == "start"]
    ended = {line[1] for line in lines if len(line) > 1 and line[0] in ("done", "failed")}
    return ", ".join(name for name in begun if name not in ended) or ("between stages" if begun else "before any stage")


# --- the driver -----------------------------------------------------------------------------------


def kill(case: Case) -> None:
    """SIGKILL of the driver."""
    driver = case.start()
    case.wait_for_moment(driver)
    driver.send(signal.SIGKILL)
    driver.wait()


def kill_twice(case: Case) -> None:
    """SIGKILL of the driver, and of the next one."""
    for share in sorted((case.share, case.random.random())):
        driver = case.start()
        case.wait_for_moment(driver, share / 2)
        driver.send(signal.SIGKILL)
        driver.wait()


def terminate(case: Case) -> None:
    """SIGTERM to the driver, which has to stop cleanly."""
    driver = case.start()
    came = case.wait_for_moment(driver)
    driver.send(signal.SIGTERM)
    code = driver.wait(LONGEST)
    case.notes["stopped"] = code
    # Until it has set its handler, a process is ended by the signal itself.
    case.notes["right"] = code in (130, -signal.SIGTERM) or not came or (code == 0 and case.share > 0.9)


def fenced(case: Case) -> None:
    """SIGSTOP of a driver for so long that a second takes over; then SIGCONT."""
    first = case.start()
    case.wait_for_moment(first)
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
    """SIGSTOP of a driver for so long that a checkpoint is due; then SIGCONT, and SIGKILL soon after."""
    driver = case.start()
    if case.wait_for_moment(driver):
        driver.send(signal.SIGSTOP)
        time.sleep(PAUSE)
        driver.send(signal.SIGCONT)
        case.wait_for_moment(driver, driver.cpu() / case.total + 0.05 * case.random.random())
    case.before()
    driver.send(signal.SIGKILL)
    driver.wait()


def two(case: Case) -> None:
    """SIGKILL of one of two drivers on one storage."""
    both = [case.start(), case.start()]
    case.wait_for_moment(both[case.random.randrange(2)], case.share / 2)  # each does about half
    victim = case.random.randrange(2)
    both[victim].send(signal.SIGKILL)
    case.notes["codes"] = [one.wait(LONGEST) for one in both]
    case.notes["right"] = both[1 - victim].code == 0


def full(case: Case) -> None:
    """Fill the disk of the storage, and free it when the run has ended."""
    driver = case.start()
    came = case.wait_for_moment(driver)
    ballast = Path(case.url).parent / "ballast"
    if came:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
    code = driver.wait(LONGEST)
    ballast.unlink(missing_ok=True)
    case.notes["stopped"] = code
    case.notes["right"] = code in (0, 1, 2) and "Traceback" not in driver.output()


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
    if case.wait_for_moment(driver):
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
    case.wait_for_moment(driver)
    driver.send(signal.SIGKILL)
    driver.wait()
    case.notes["machine"] = "b"


def s3_two(case: Case) -> None:
    """Two drivers on two machines over one bucket, of which one is killed."""
    both = [case.start("a"), case.start("b")]
    case.wait_for_moment(both[case.random.randrange(2)], case.share / 2)
    victim = case.random.randrange(2)
    both[victim].send(signal.SIGKILL)
    case.notes["codes"] = [one.wait(LONGEST) for one in both]
    case.notes["right"] = both[1 - victim].code == 0


# --- Ray ------------------------------------------------------------------------------------------


ACTORS = ("ray::StageProcess", "ray::ProgressBoard")
"""Titles of Ray's processes that do the work or direct it."""


def _named(driver: Driver, *wanted: str) -> list[psutil.Process]:
    """Descendants of the driver whose command line contains one of these."""
    found = []
    for process in family(driver.pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            line = " ".join(process.cmdline())
            if any(word in line for word in wanted):
                found.append(process)
    return found


def ray_kill(case: Case) -> None:
    """SIGKILL of a driver that has started a Ray of its own."""
    driver = case.start()
    case.wait_for_moment(driver)
    descendants = family(driver.pid)[1:] if driver.poll() is None else []
    driver.send(signal.SIGKILL)
    driver.wait()
    case.notes["left"] = gone(descendants)


def ray_worker(case: Case) -> None:
    """SIGKILL of a worker process."""
    driver = case.start()
    if case.wait_for_moment(driver):
        ends = time.monotonic() + 60
        while driver.poll() is None and time.monotonic() < ends:
            workers = _named(driver, *ACTORS)
            if workers:
                victim = case.random.choice(sorted(workers, key=lambda one: one.pid))
                with contextlib.suppress(psutil.NoSuchProcess):
                    case.notes["victim"] = " ".join(victim.cmdline()).strip()
                    case.hit = running_stages(driver.output())
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
    descendants: list[psutil.Process] = []
    if case.wait_for_moment(driver):
        ends = time.monotonic() + 60
        while driver.poll() is None and time.monotonic() < ends:
            found = [one for one in _named(driver, "raylet/raylet") if Path(one.exe()).name == "raylet"]
            if found:
                descendants = family(driver.pid)[1:]
                case.hit = running_stages(driver.output())
                found[0].kill()
                break
            time.sleep(0.02)
    try:
        case.notes["stopped"] = driver.wait(180)
    except TimeoutError:
        case.notes |= {"stopped": "had to be killed after 180 s", "right": False}
        driver.end()
    case.notes["left"] = gone(descendants)


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
