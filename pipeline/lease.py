"""Attempts at a key, and the lease that guards each.

``.work/<key>/<attempt>/`` is one attempt. Its number, one above any seen before, is the fencing number:
``mkdir`` makes it exclusive, and only the highest attempt may commit. The lease file inside says who
works there and when it last gave a sign. An attempt is expired when its owner let go of it, when its
owner's process is known to be dead, when its last sign is older than ``STALE`` by the clock, or when it
gave no sign while somebody watched it for ``TTL`` by a clock of their own (hosts' clocks differ).

Who takes over an expired attempt gets a new one that holds links to the finished files of the old: a
late write into the old directory cannot reach the new one.
"""

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.artifact import LEASE

TTL = 20.0
STALE = 600.0


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: on which host and boot, in which process namespace, started when."""

    host: str
    boot: str
    pids: str
    pid: int
    started: str


def this_process() -> Owner:
    boot = Path("/proc/sys/kernel/random/boot_id")
    pids = Path("/proc/self/ns/pid")
    return Owner(
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        os.readlink(pids) if pids.exists() else "",
        os.getpid(),
        _start_time(os.getpid()),
    )


def _start_time(pid: int) -> str:
    """When the process started, in clock ticks since boot; '' where there is no such process, or a dead one
    that its parent has not asked after yet."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state in "ZX" else rest[18]


def known_dead(owner: Owner, me: Owner) -> bool:
    """Whether the owner surely lives no more: only a process of this host and namespace can be asked."""
    if not me.boot or (owner.host, owner.boot, owner.pids) != (me.host, me.boot, me.pids):
        return False
    return _start_time(owner.pid) != owner.started


@dataclass(frozen=True, slots=True)
class Lease:
    owner: Owner
    beat: float
    beats: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt: where the stage works, and the name under which it would be committed."""

    home: Path
    number: int
    lease: Lease

    @property
    def name(self) -> str:
        return f"{self.number:04d}"

    @property
    def out(self) -> Path:
        return self.home / self.name


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else works on it."""

    owner: Owner | None


Watch = dict[tuple[Path, int], tuple[object, float]]


def claim(storage: Path, stage: str, key: str, watch: Watch, clock: Callable[[], float] = time.time) -> Attempt | Held:
    """Take the key's next attempt if nobody holds the last one. ``watch`` remembers what was seen of held leases."""
    home = storage / ".work" / key
    home.mkdir(parents=True, exist_ok=True)
    last = highest(home)
    if last:
        lease = _read(home / f"{last:04d}")
        if not _expired(home, last, lease, watch, clock()):
            return Held(lease.owner if lease else None)
    number = 1 + max(last, highest(storage / stage / key))
    attempt = Attempt(home, number, Lease(this_process(), clock()))
    try:
        attempt.out.mkdir()
        _write(attempt.out, attempt.lease)
    except (FileExistsError, FileNotFoundError):
        # Another run was quicker: it has taken this number, or it has just committed and swept all attempts.
        return Held(None)
    # More than one where an adoption was cut: what it had not linked yet lies in the attempt before.
    for old in sorted((n for n in numbers(home) if n < number), reverse=True):
        _adopt(home / f"{old:04d}", attempt.out)
    return attempt


def highest(home: Path) -> int:
    """The highest attempt number in a directory; 0 if none."""
    return max(numbers(home), default=0)


def numbers(home: Path) -> list[int]:
    """The attempts in a directory, which another run may be removing."""
    try:
        return [int(name) for name in os.listdir(home) if name.isdigit()]
    except FileNotFoundError:
        return []


def beat(attempt: Attempt, clock: Callable[[], float] = time.time) -> Attempt:
    """Give a sign of life. Raises ``Fenced`` when the attempt is no longer ours."""
    check(attempt)
    lease = replace(attempt.lease, beat=clock(), beats=attempt.lease.beats + 1)
    _write(attempt.out, lease)
    return replace(attempt, lease=lease)


class Fenced(RuntimeError):
    """Another attempt took over: nothing of this one may be committed."""


def check(attempt: Attempt) -> None:
    """Raises ``Fenced``. Numbers begin anew where all of a key was freed, so the lease must name us, too."""
    lease = _read(attempt.out)
    if highest(attempt.home) != attempt.number or lease is None or lease.owner != attempt.lease.owner:
        raise Fenced(f"{attempt.out}: a later attempt took over, because this one gave no sign of life in time")


def release(attempt: Attempt) -> None:
    """Let go, so that the next run goes on from here at once."""
    if attempt.out.is_dir():
        _write(attempt.out, replace(attempt.lease, released=True))


def leased(home: Path, now: float) -> bool:
    """Whether somebody may still be at work below ``.work/<key>``, as far as one look can tell."""
    last = highest(home)
    return last > 0 and not _expired(home, last, _read(home / f"{last:04d}"), {}, now)


def _expired(home: Path, number: int, lease: Lease | None, watch: Watch, now: float) -> bool:
    if lease is not None and (lease.released or known_dead(lease.owner, this_process())):
        return True
    attempt = home / f"{number:04d}"
    try:
        sign = lease.beat if lease else attempt.stat().st_mtime
    except FileNotFoundError:
        return False
    if now - sign > STALE:
        return True
    seen, since = watch.setdefault((home, number), (lease, now))
    if seen != lease:
        watch[(home, number)] = (lease, now)
        return False
    return now - since > TTL


def _adopt(old: Path, new: Path) -> None:
    """Link what the old attempt finished into the new one, then close the old one.

    An attempt without a lease is closed: what lies there came from a late writer, and is not taken.
    """
    for folder, _, files in os.walk(old) if (old / LEASE).exists() else ():
        target = new / Path(folder).relative_to(old)
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            if name != LEASE and not name.endswith(".tmp"):
                _link(Path(folder) / name, target / name)
    (old / LEASE).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Link a file unless a late writer of the old attempt has just removed it: then it counts as unfinished.
    What a later attempt has finished stays."""
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        os.link(source, target)


def _read(out: Path) -> Lease | None:
    try:
        document = json.loads((out / LEASE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Lease(Owner(**document["owner"]), document["beat"], document["beats"], document["released"])


def _write(out: Path, lease: Lease) -> None:
    draft = out / (LEASE + ".tmp")
    draft.write_text(json.dumps(asdict(lease)), "utf-8")
    os.replace(draft, out / LEASE)
