"""Attempts at a key, and the lease that guards each.

``.work/<key>/<attempt>/`` is one attempt. Its number, one above any seen before, is the fencing number:
the lease is created there if absent, and only the highest attempt may commit. It says who works there
and when it last gave a sign. An attempt is expired when its owner let go of it, when its
owner's process is known to be dead, when its last sign is older than ``STALE`` by the clock, or when it
gave no sign while somebody watched it for ``TTL`` by a clock of their own (hosts' clocks differ).

Who takes over an expired attempt gets a new one that holds links to, or copies of, the finished files of
the old: a late write into the old folder cannot reach the new one.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.artifacts.record import home_of
from pipeline.storage import Storage
from pipeline.storage.port import LEASE, WORK

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

    storage: Storage
    key: str
    number: int
    lease: Lease

    @property
    def name(self) -> str:
        return attempt_name(self.number)

    @property
    def folder(self) -> str:
        """The attempt's folder in the storage."""
        return _folder(self.key, self.number)

    @property
    def out(self) -> Path:
        """The attempt's directory on this machine."""
        return self.storage.local / self.folder


@dataclass(frozen=True, slots=True)
class AttemptHeld:
    """Somebody else works on it."""

    owner: Owner | None


Watch = dict[tuple[str, int], tuple[object, float]]


def work_of(key: str) -> str:
    """The folder of all attempts at a key that are not committed."""
    return f"{WORK}/{key}"


def attempt_name(number: int) -> str:
    return f"{number:04d}"


def claim(
    storage: Storage,
    stage: str,
    key: str,
    watch: Watch,
    clock: Callable[[], float] = time.time,
    begun: Callable[["Attempt"], None] = lambda _: None,
    adopt: bool = True,
) -> Attempt | AttemptHeld:
    """Take the key's next attempt if nobody holds the last one. ``watch`` remembers what was seen of held leases.

    ``begun`` is told once the lease is ours: to take over what the last one had finished may take longer than a lease
    lives without a sign. Without ``adopt`` that is left where it is, by who only means to remove it.
    """
    last = highest(storage, work_of(key))
    if last:
        lease = _read(storage, key, last)
        if not _expired(storage, key, last, lease, watch, clock()):
            return AttemptHeld(lease.owner if lease else None)
    number = 1 + max(last, highest(storage, home_of(stage, key)))
    attempt = Attempt(storage, key, number, Lease(this_process(), clock()))
    try:
        if not storage.create(_name(key, number), _text(attempt.lease)):
            return AttemptHeld(None)  # another run was quicker
    except FileNotFoundError:
        return AttemptHeld(None)  # another run has just committed, and swept all attempts
    begun(attempt)
    attempt.out.mkdir(parents=True, exist_ok=True)
    # More than one where an adoption was cut: what it had not taken yet lies in the attempt before.
    for old in sorted((n for n in numbers(storage, work_of(key)) if adopt and n < number), reverse=True):
        storage.adopt(f"{work_of(key)}/{attempt_name(old)}", attempt.folder)
    return attempt


def highest(storage: Storage, folder: str) -> int:
    """The highest attempt number in a folder; 0 if none."""
    return max(numbers(storage, folder), default=0)


def numbers(storage: Storage, folder: str) -> list[int]:
    """The attempts in a folder, which another run may be removing."""
    return [int(name) for name in storage.entries(folder) if name.isdigit()]


def beat(attempt: Attempt, clock: Callable[[], float] = time.time) -> Attempt:
    """Give a sign of life. Raises ``Fenced`` when the attempt is no longer ours."""
    check(attempt)
    lease = replace(attempt.lease, beat=clock(), beats=attempt.lease.beats + 1)
    attempt.storage.write(_name(attempt.key, attempt.number), _text(lease))
    return replace(attempt, lease=lease)


class Fenced(RuntimeError):
    """Another attempt took over: nothing of this one may be committed."""


def check(attempt: Attempt) -> None:
    """Raises ``Fenced``. Numbers begin anew where all of a key was freed, so the lease must name us, too."""
    lease = _read(attempt.storage, attempt.key, attempt.number)
    last = highest(attempt.storage, work_of(attempt.key))
    if last != attempt.number or lease is None or lease.owner != attempt.lease.owner:
        raise Fenced(f"{attempt.out}: a later attempt took over, because this one gave no sign of life in time")


def forsake(attempt: Attempt) -> None:
    """Remove what a fenced attempt still wrote when another had built the artifact, and swept all attempts."""
    if attempt.storage.read(_name(attempt.key, attempt.number)) is None:
        discard(attempt)


def discard(attempt: Attempt) -> None:
    """Remove all of it, and the key's folder if nothing else is there."""
    attempt.storage.drop(attempt.folder)
    if not attempt.storage.entries(work_of(attempt.key)):
        attempt.storage.drop(work_of(attempt.key))


def release(attempt: Attempt) -> None:
    """Let go, so that the next run goes on from here at once."""
    if attempt.out.is_dir():
        attempt.storage.write(_name(attempt.key, attempt.number), _text(replace(attempt.lease, released=True)))


def leased(storage: Storage, key: str, now: float) -> bool:
    """Whether somebody may still be at work at a key, as far as one look can tell."""
    last = highest(storage, work_of(key))
    return last > 0 and not _expired(storage, key, last, _read(storage, key, last), {}, now)


def _expired(storage: Storage, key: str, number: int, lease: Lease | None, watch: Watch, now: float) -> bool:
    if lease is not None and (lease.released or known_dead(lease.owner, this_process())):
        return True
    # An attempt without a lease is being made, or was cut just then.
    signs = [lease.beat] if lease else [entry.modified for entry in storage.walk(_folder(key, number)).values()]
    if signs and now - max(signs) > STALE:
        return True
    seen, since = watch.setdefault((key, number), (lease, now))
    if seen != lease:
        watch[(key, number)] = (lease, now)
        return False
    return now - since > TTL


def _folder(key: str, number: int) -> str:
    return f"{work_of(key)}/{attempt_name(number)}"


def _name(key: str, number: int) -> str:
    return f"{_folder(key, number)}/{LEASE}"


def _text(lease: Lease) -> str:
    return json.dumps(asdict(lease))


def _read(storage: Storage, key: str, number: int) -> Lease | None:
    text = storage.read(_name(key, number))
    if text is None:
        return None
    document = json.loads(text)
    return Lease(Owner(**document["owner"]), document["beat"], document["beats"], document["released"])
