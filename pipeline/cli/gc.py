"""Remove what ``gc`` found. A key is claimed first, as a run that builds it would: whoever works there keeps it, and
nobody begins to while it goes."""

import re
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.attempts import Attempt, Held, claim, discard, release, work_of
from pipeline.artifacts.record import home_of, read_record, record_name, withdraw
from pipeline.artifacts.retention import Waste, find_waste, in_use
from pipeline.cli.request import Request, composed, terminal
from pipeline.errors import RequestError
from pipeline.storage import Storage
from pipeline.storage.port import LEASE

_AGE = re.compile(r"([0-9]+)([dhm])")
_UNITS = {"d": 86_400, "h": 3_600, "m": 60}


def free(waste: Waste, storage: Storage, clock: Callable[[], float] = time.time) -> str:
    """Remove it: the record first, so that no plan believes in half an artifact. '' or why it was kept."""
    if not waste.removable:
        return waste.why
    try:
        if waste.kind == "note":
            _remove(waste, storage)
            return ""
        claimed = claim(storage, waste.stage, waste.key, {}, clock)
        if isinstance(claimed, Held):
            return "another run works on it"
        return _free_claimed(waste, storage, claimed, clock())
    except OSError as error:
        return f"{error.filename} cannot be removed ({error.strerror})" if error.filename else str(error)
    except RequestError as error:
        return str(error)


def _free_claimed(waste: Waste, storage: Storage, claimed: Attempt, now: float) -> str:
    freed = False
    try:
        kept = _changed(waste, storage, now)
        if not kept:
            _remove(waste, storage)
            freed = True
        return kept
    finally:
        # What our own attempt took over from unfinished ones goes with it, unless a run could still use it.
        if freed and waste.attempts:
            storage.drop(work_of(waste.key))
        else:
            _let_go(claimed)


def _changed(waste: Waste, storage: Storage, now: float) -> str:
    """Why it must stay by now; ''."""
    record = read_record(storage, record_name(waste.stage, waste.key)) if waste.stage else None
    if (record.attempt if record else "") != waste.attempt:
        return "another run has built it meanwhile"
    if any(waste.key in inputs for inputs in in_use(storage, now, besides=waste.key).values()):
        return "a run that is under way needs it"
    return ""


def _remove(waste: Waste, storage: Storage) -> None:
    if waste.kind == "artifact":
        withdraw(storage, waste.stage, waste.key)
    for path in waste.paths:
        if path.endswith(".key") and (storage.read(path) or "").strip() != waste.key:
            continue
        storage.drop(path)
        storage.remove(path)
    home = home_of(waste.stage, waste.key)
    if waste.stage and not storage.entries(home):
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
    asked = [composed(request) for request in requests]
    storage = asked[0].storage
    for request, other in zip(requests, asked, strict=True):
        if other.storage != storage:
            raise RequestError(
                f"storage: {storage} in {requests[0].recipe}, {other.storage} in {request.recipe}; give --storage"
            )
    try:
        waste = find_waste(storage, [one.graph for one in asked], time.time(), least)
    except FileNotFoundError as error:
        raise RequestError(f"{error.filename}: it went while it was looked at; try again") from error
    console = terminal()
    print_waste(waste, console)
    going = [one for one in waste if one.removable]
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


def print_waste(waste: Sequence[Waste], console: Console) -> None:
    if not waste:
        return
    table = Table(header_style="bold")
    for head in ("node", "key", "what"):
        table.add_column(head, overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("age", justify="right")
    table.add_column("why", overflow="fold")
    for one in waste:
        row = (one.name, one.key[:12], one.kind, f"{one.bytes:,}", age_text(one.age), one.why)
        table.add_row(*map(Text, row), style="" if one.removable else "red")
    console.print(table)


def age_text(seconds: float) -> str:
    """The age in its largest unit."""
    for unit, length in _UNITS.items():
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
