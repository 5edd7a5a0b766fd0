"""Remove what ``gc`` found. A key is claimed first, as a run that builds it would: whoever works there keeps it, and
nobody begins to while it goes."""

import re
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.attempts import Attempt, AttemptHeld, claim, discard, release, work_of
from pipeline.artifacts.record import home_of, read_record, record_name, withdraw
from pipeline.artifacts.retention import UnusedArtifact, find_unused, in_use
from pipeline.cli.request import Request, resolve, terminal
from pipeline.errors import RequestError
from pipeline.storage import Storage
from pipeline.storage.port import LEASE

_AGE = re.compile(r"([0-9]+)([dhm])")
_UNITS = {"d": 86_400, "h": 3_600, "m": 60}


def free(unused: UnusedArtifact, storage: Storage, clock: Callable[[], float] = time.time) -> str:
    """Remove it: the record first, so that no plan believes in half an artifact. '' or why it was kept."""
    if not unused.removable:
        return unused.why
    try:
        if unused.kind == "note":
            _remove(unused, storage)
            return ""
        claimed = claim(storage, unused.stage, unused.key, {}, clock)
        if isinstance(claimed, AttemptHeld):
            return "another run works on it"
        return _free_claimed(unused, storage, claimed, clock())
    except OSError as error:
        return f"{error.filename} cannot be removed ({error.strerror})" if error.filename else str(error)
    except RequestError as error:
        return str(error)


def _free_claimed(unused: UnusedArtifact, storage: Storage, claimed: Attempt, now: float) -> str:
    freed = False
    try:
        kept = _changed(unused, storage, now)
        if not kept:
            _remove(unused, storage)
            freed = True
        return kept
    finally:
        # What our own attempt took over from unfinished ones goes with it, unless a run could still use it.
        if freed and unused.attempts:
            storage.drop(work_of(unused.key))
        else:
            _let_go(claimed)


def _changed(unused: UnusedArtifact, storage: Storage, now: float) -> str:
    """Why it must stay by now; ''."""
    record = read_record(storage, record_name(unused.stage, unused.key)) if unused.stage else None
    if (record.attempt if record else "") != unused.attempt:
        return "another run has built it meanwhile"
    if any(unused.key in inputs for inputs in in_use(storage, now, besides=unused.key).values()):
        return "a run that is under way needs it"
    return ""


def _remove(unused: UnusedArtifact, storage: Storage) -> None:
    if unused.kind == "artifact":
        withdraw(storage, unused.stage, unused.key)
    for path in unused.paths:
        if path.endswith(".key") and (storage.read(path) or "").strip() != unused.key:
            continue
        storage.drop(path)
        storage.remove(path)
    home = home_of(unused.stage, unused.key)
    if unused.stage and not storage.entries(home):
        storage.drop(home)


def _let_go(claimed: Attempt) -> None:
    """Leave to the next run what an earlier one had finished, and nothing where there was nothing."""
    storage = claimed.storage
    if [name for name in storage.walk(claimed.folder) if name != f"{claimed.folder}/{LEASE}"]:
        release(claimed)
    else:
        discard(claimed)


# --- the command ----------------------------------------------------------------------------------


def gc_recipes(requests: Sequence[Request], older_than: str | None, yes: bool) -> int:
    """List what none of the recipes needs, and free it if ``yes``. 1 if something could not be freed."""
    least = seconds_of(older_than) if older_than else 0.0
    resolved = [resolve(request) for request in requests]
    storage = resolved[0].storage
    for request, other in zip(requests, resolved, strict=True):
        if other.storage != storage:
            raise RequestError(
                f"storage: {storage} in {requests[0].recipe}, {other.storage} in {request.recipe}; give --storage"
            )
    try:
        unused = find_unused(storage, [one.graph for one in resolved], time.time(), least)
    except FileNotFoundError as error:
        raise RequestError(f"{error.filename}: it went while it was looked at; try again") from error
    console = terminal()
    print_unused(unused, console)
    going = [one for one in unused if one.removable]
    size = sum(one.bytes for one in going)
    if not going or not yes:
        advice = "; nothing is removed without --yes" if going else ""
        console.print(f"{storage}: {len(going)} to free, {size:,} bytes{advice}", soft_wrap=True)
        return 0
    kept = {one.key: why for one in going if (why := free(one, storage))}
    for one in going:
        if one.key in kept:
            console.print(Text(f"kept {one.name or one.key[:12]}: {kept[one.key]}", style="yellow"), soft_wrap=True)
    freed = [one for one in going if one.key not in kept]
    console.print(
        f"{storage}: freed {len(freed)} of {len(going)}, {sum(o.bytes for o in freed):,} bytes", soft_wrap=True
    )
    return 1 if kept else 0


def seconds_of(age: str) -> float:
    """``14d``, ``36h`` or ``30m`` in seconds."""
    found = _AGE.fullmatch(age)
    if found is None:
        raise RequestError(f"--older-than: {age}; give a whole number of days, hours or minutes, such as 14d, 36h, 30m")
    return float(found[1]) * _UNITS[found[2]]


def print_unused(unused: Sequence[UnusedArtifact], console: Console) -> None:
    if not unused:
        return
    table = Table(header_style="bold")
    for head in ("node", "key", "what"):
        table.add_column(head, overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("age", justify="right")
    table.add_column("why", overflow="fold")
    for one in unused:
        row = (one.name, one.key[:12], one.kind, f"{one.bytes:,}", age_text(one.age), one.why)
        table.add_row(*map(Text, row), style="" if one.removable else "red")
    console.print(table)


def age_text(seconds: float) -> str:
    """The age in its largest unit."""
    for unit, length in _UNITS.items():
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
