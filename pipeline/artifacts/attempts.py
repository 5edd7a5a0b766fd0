"""Attempts at building the artifact of a key, each guarded by a lease.

``.work/<key>/<attempt>/`` is one attempt. Its number is one above all earlier ones and serves as fencing number: only
the attempt with the highest number may commit. Its lease, a file that is created if absent, names the process that
owns it and the time of its last heartbeat. An attempt is expired when its owner has released it, when the owner's
process is known to be dead, when its last heartbeat is older than ``STALE`` seconds, or when another process has seen
no heartbeat for ``TTL`` seconds of its own clock (the clocks of hosts differ).

A process that takes over an expired attempt gets a new one with links to, or copies of, the finished files of the old
one: a late write into the old folder cannot reach the new one.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.artifacts.record import key_folder
from pipeline.storage import Storage, UnreadableDocument
from pipeline.storage.port import LEASE, WORK

TTL = 20.0
"""Seconds without a heartbeat, as observed by another process, after which an attempt is expired."""
STALE = 600.0
"""Age of the last heartbeat in seconds, by the time in the lease, after which an attempt is expired."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. ``boot`` and ``pids`` identify the host's boot and the process namespace, '' where unknown;
    ``started`` is the process's start in clock ticks since boot, which tells it from a later one of the same number."""

    host: str
    boot: str
    pids: str
    pid: int
    started: str


def this_process() -> Owner:
    """The process that calls."""
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
    """When the process started, in clock ticks since boot; '' if there is none, or only a zombie (a dead process whose
    parent has not collected its exit status)."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state in "ZX" else rest[18]


def known_dead(owner: Owner, me: Owner) -> bool:
    """Whether the owner's process is surely dead. False for a process of another host, boot or namespace than ``me``,
    of which nothing is known."""
    if not me.boot or (owner.host, owner.boot, owner.pids) != (me.host, me.boot, me.pids):
        return False
    return _start_time(owner.pid) != owner.started


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of an attempt: its owner, the time of the last heartbeat (seconds since 1970) and their number."""

    owner: Owner
    beat: float
    beats: int = 0
    released: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that this process owns. Its number, as ``name``, is that of the artifact's folder once committed."""

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
    """Another process is building the artifact; ``owner`` is None if it is not known which."""

    owner: Owner | None


Watch = dict[tuple[str, int], tuple[object, float]]
"""(key, attempt number) -> the lease as last seen, and when it was first seen like that, by the own clock."""


def attempts_folder(key: str) -> str:
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
    on_claimed: Callable[["Attempt"], None] = lambda _: None,
    adopt: bool = True,
) -> Attempt | AttemptHeld:
    """Claim the next attempt at a key, unless another process holds the last one.

    ``watch`` keeps, between calls, what was seen of leases that others hold. ``on_claimed`` is called as soon as the
    lease is created, to start its heartbeat: adopting the finished files of earlier attempts may take longer than
    ``TTL``. Without ``adopt``, those files stay where they are; for callers that only remove them.
    """
    last = highest_attempt(storage, attempts_folder(key))
    if (holder := _holder(storage, key, last, watch, clock())) is not None:
        return holder
    number = 1 + max(last, highest_attempt(storage, key_folder(stage, key)))
    attempt = Attempt(storage, key, number, Lease(this_process(), clock()))
    try:
        if not storage.create(_lease_name(key, number), _lease_text(attempt.lease)):
            return AttemptHeld(None)  # another run was quicker
    except FileNotFoundError:
        return AttemptHeld(None)  # another run has just committed, and removed all attempts
    on_claimed(attempt)
    attempt.out.mkdir(parents=True, exist_ok=True)
    # More than one if an adoption was interrupted: the files that it had not adopted yet are in the attempt before.
    for old in sorted(
        (n for n in attempt_numbers(storage, attempts_folder(key)) if adopt and n < number), reverse=True
    ):
        storage.adopt(f"{attempts_folder(key)}/{attempt_name(old)}", attempt.folder)
    return attempt


def highest_attempt(storage: Storage, folder: str) -> int:
    """The highest attempt number in a folder; 0 if there is none."""
    return max(attempt_numbers(storage, folder), default=0)


def attempt_numbers(storage: Storage, folder: str) -> list[int]:
    """The numbers of the attempts in a folder; [] if another run has removed it."""
    return [int(name) for name in storage.entries(folder) if name.isdigit()]


def beat(attempt: Attempt, clock: Callable[[], float] = time.time) -> Attempt:
    """Write a heartbeat into the lease; returns the attempt with the new lease. Raises ``Fenced`` when another attempt
    took over."""
    check(attempt)
    lease = replace(attempt.lease, beat=clock(), beats=attempt.lease.beats + 1)
    attempt.storage.write(_lease_name(attempt.key, attempt.number), _lease_text(lease))
    return replace(attempt, lease=lease)


class Fenced(RuntimeError):
    """Another attempt took over: this one must not be committed."""


def check(attempt: Attempt) -> None:
    """Raises ``Fenced`` unless the attempt is the highest and this process owns its lease. The number alone would not
    do: after ``gc`` has removed everything of a key, numbers start at 1 again."""
    lease = _read_lease(attempt.storage, attempt.key, attempt.number)
    last = highest_attempt(attempt.storage, attempts_folder(attempt.key))
    if last != attempt.number or lease is None or lease.owner != attempt.lease.owner:
        raise Fenced(f"{attempt.out}: a later attempt took over, because this one's heartbeat came too late")


def remove_if_swept(attempt: Attempt) -> None:
    """Remove what a fenced attempt wrote after another process had built the artifact and removed all attempts, this
    one's lease among them."""
    if attempt.storage.read(_lease_name(attempt.key, attempt.number)) is None:
        discard(attempt)


def discard(attempt: Attempt) -> None:
    """Remove the attempt, and the folder of attempts if it is the last one."""
    attempt.storage.drop(attempt.folder)
    if not attempt.storage.entries(attempts_folder(attempt.key)):
        attempt.storage.drop(attempts_folder(attempt.key))


def release(attempt: Attempt) -> None:
    """Mark the lease as released, so that the next run can continue from this attempt at once."""
    if attempt.out.is_dir():
        attempt.storage.write(
            _lease_name(attempt.key, attempt.number), _lease_text(replace(attempt.lease, released=True))
        )


def held(storage: Storage, key: str, watch: Watch, now: float) -> AttemptHeld | None:
    """Which process holds the last attempt at a key; None if the key can be claimed. Claims nothing. ``watch`` is as in
    ``claim``."""
    return _holder(storage, key, highest_attempt(storage, attempts_folder(key)), watch, now)


def _holder(storage: Storage, key: str, last: int, watch: Watch, now: float) -> AttemptHeld | None:
    """As ``held``, for the highest attempt number ``last``; 0 if there is no attempt."""
    if not last:
        return None
    lease = _read_lease(storage, key, last)
    if _expired(storage, key, last, lease, watch, now):
        return None
    return AttemptHeld(lease.owner if lease else None)


def leased(storage: Storage, key: str, now: float) -> bool:
    """Whether another process may be working on a key, as far as can be told without watching its lease."""
    last = highest_attempt(storage, attempts_folder(key))
    return last > 0 and not _expired(storage, key, last, _read_lease(storage, key, last), {}, now)


def _expired(storage: Storage, key: str, number: int, lease: Lease | None, watch: Watch, now: float) -> bool:
    if lease is not None and (lease.released or known_dead(lease.owner, this_process())):
        return True
    # An attempt without a lease is just being created, or its process was killed while it did.
    beats = [lease.beat] if lease else [entry.modified for entry in storage.walk(_folder(key, number)).values()]
    if beats and now - max(beats) > STALE:
        return True
    seen, since = watch.setdefault((key, number), (lease, now))
    if seen != lease:
        watch[(key, number)] = (lease, now)
        return False
    return now - since > TTL


def _folder(key: str, number: int) -> str:
    return f"{attempts_folder(key)}/{attempt_name(number)}"


def _lease_name(key: str, number: int) -> str:
    return f"{_folder(key, number)}/{LEASE}"


def _lease_text(lease: Lease) -> str:
    return json.dumps(asdict(lease))


def _read_lease(storage: Storage, key: str, number: int) -> Lease | None:
    """The lease of an attempt; None if there is none. One that a power failure left damaged counts as none."""
    try:
        document = json.loads(storage.read(_lease_name(key, number)) or "")
        return Lease(
            Owner(**document["owner"]), float(document["beat"]), int(document["beats"]), bool(document["released"])
        )
    except (UnreadableDocument, ValueError, TypeError, LookupError):
        return None
