"""``stillhouse gc``: list what the given recipes once made or used and need no longer, and remove it.

What further recipes made or used as well, and what no recipe did by the storage's records, is counted, and removed with
``--others`` alone.

A key is claimed before it is removed, as a run that builds it would claim it: so nothing is removed that another
process works on, and no process starts to build it meanwhile.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts.attempts import Attempt, AttemptHeld, attempts_folder, claim, discard, release
from pipeline.artifacts.latencies import dangling_latencies
from pipeline.artifacts.model_names import dangling_names, remove_names
from pipeline.artifacts.record import MODELS, key_folder, sound_record, withdraw
from pipeline.artifacts.retention import Survey, UnusedArtifact, in_use, survey
from pipeline.cli.last_sets import as_written_and_last, run_of_same_name
from pipeline.cli.request import Request, ResolvedRequest, resolve, terminal
from pipeline.cli.search.run_search import trial_nodes
from pipeline.errors import RequestError
from pipeline.search.trials import trials_graph
from pipeline.storage import Storage
from pipeline.storage.port import LEASE

_AGE = re.compile(r"([0-9]+)([dhm])")
_UNITS = {"d": 86_400, "h": 3_600, "m": 60}


def free(unused: UnusedArtifact, storage: Storage, clock: Callable[[], float] = time.time) -> str:
    """Remove an unused artifact, its record first, so that no plan reuses half of it. '' if removed, else the reason
    why it was kept."""
    if not unused.removable:
        return unused.why
    try:
        if unused.kind == "note":
            _remove(unused, storage)
            return ""
        claimed = claim(storage, unused.stage, unused.key, {}, clock)
        if isinstance(claimed, AttemptHeld):
            return "another run is working on it"
        return _free_claimed(unused, storage, claimed, clock())
    except OSError as error:
        return f"{error.filename} cannot be removed ({error.strerror})" if error.filename else str(error)
    except RequestError as error:
        return str(error)


def _free_claimed(unused: UnusedArtifact, storage: Storage, claimed: Attempt, now: float) -> str:
    freed = False
    try:
        kept = _reason_to_keep(unused, storage, now)
        if not kept:
            _remove(unused, storage)
            freed = True
        return kept
    finally:
        # The claim may have taken over files of unfinished attempts: removed too, unless a run could still use them.
        if freed and unused.attempts:
            storage.drop(attempts_folder(unused.key))
        else:
            _release_claim(claimed)


def _reason_to_keep(unused: UnusedArtifact, storage: Storage, now: float) -> str:
    """Why the artifact may no longer be removed: it changed since it was listed, or a run needs it. '' if neither."""
    record = sound_record(storage, unused.stage, unused.key) if unused.stage else None
    if (record.attempt if record else "") != unused.attempt:
        return "another run has built it meanwhile"
    if any(unused.key in inputs for inputs in in_use(storage, now, besides=unused.key).values()):
        return "a run that is in progress needs it"
    return ""


def _remove(unused: UnusedArtifact, storage: Storage) -> None:
    if unused.kind in ("artifact", "damaged", "withdrawn"):
        withdraw(storage, unused.stage, unused.key)
    for path in unused.paths:
        if path.endswith(".key") and (storage.read(path) or "").strip() != unused.key:
            continue
        storage.drop(path)
        storage.remove(path)
    home = key_folder(unused.stage, unused.key)
    if unused.stage and not storage.entries(home):
        storage.drop(home)


def _release_claim(claimed: Attempt) -> None:
    """Give the claimed attempt up: keep its files for the next run, or remove it if it has none."""
    storage = claimed.storage
    if [name for name in storage.walk(claimed.folder) if name != f"{claimed.folder}/{LEASE}"]:
        release(claimed)
    else:
        discard(claimed)


# --- the command ----------------------------------------------------------------------------------


def gc_recipes(
    requests: Sequence[Request], older_than: str | None, yes: bool, others: bool = False, as_written: bool = False
) -> int:
    """List what belongs to these recipes alone and none of them needs, with ``others`` also what belongs to further
    ones, and how much is kept and why. Unless ``as_written``, what their last runs needed with a ``--set`` counts as
    needed; and so do the trials of their searches. Remove what is listed if ``yes``. Returns the exit code: 1 if
    something could not be removed. Raises RequestError."""
    least = seconds_of(older_than) if older_than else 0.0
    if not as_written:
        requests = [each for request in requests for each in as_written_and_last(request)]
    resolved = [resolve(request, reads_data=False) for request in requests]
    storage = resolved[0].storage
    for request, other in zip(requests, resolved, strict=True):
        if other.storage != storage:
            raise RequestError(
                f"storage: {storage} in {requests[0].recipe}, {other.storage} in {request.recipe}; give --storage"
            )
    graphs = [one.graph for one in resolved]
    graphs += [
        trials_graph(trial_nodes(request, one, reads_data=False), one.recipe.name, storage)
        for request, one in zip(requests, resolved, strict=True)
        if one.recipe.search is not None
    ]
    try:
        found = survey(storage, graphs, time.time(), least)
    except FileNotFoundError as error:
        raise RequestError(f"{error.filename}: was removed while the storage was being read; try again") from error
    console = terminal()
    names = {one.recipe.name for one in resolved if not _is_shared_name(one, storage)}
    listed = [one for one in found.unused if others or not one.removable or one.belongs_to(names)]
    print_unused(listed, console)
    for line in kept_lines(found, [one for one in found.unused if one not in listed], names, older_than or ""):
        console.print(f"kept: {line}", soft_wrap=True, markup=False)
    removable = [one for one in listed if one.removable]
    size = sum(one.bytes for one in removable)
    if not removable or not yes:
        advice = "; nothing is removed without --yes" if removable else ""
        console.print(f"{storage}: {len(removable)} to free, {size:,} bytes{advice}", soft_wrap=True)
        return _remove_dangling(storage, console) if yes else 0
    kept = {one.key: why for one in removable if (why := free(one, storage))}
    for one in removable:
        if one.key in kept:
            console.print(Text(f"kept {one.name or one.key[:12]}: {kept[one.key]}", style="yellow"), soft_wrap=True)
    freed = [one for one in removable if one.key not in kept]
    console.print(
        f"{storage}: freed {len(freed)} of {len(removable)}, {sum(o.bytes for o in freed):,} bytes", soft_wrap=True
    )
    return max(1 if kept else 0, _remove_dangling(storage, console))


def _remove_dangling(storage: Storage, console: Console) -> int:
    """Remove the names and the measured latencies of models that are gone. Returns 1 if a name cannot be removed, else
    0."""
    with suppress(OSError):  # a few hundred bytes, which nothing reads any more
        for name in dangling_latencies(storage):
            storage.remove(name)
    return _remove_dangling_names(storage, console)


def _remove_dangling_names(storage: Storage, console: Console) -> int:
    """Remove the names of models whose artifacts are gone, and print how many. Returns 1 if they cannot be removed,
    else 0."""
    try:
        names = dangling_names(storage)
        remove_names(names, storage)
    except OSError as error:
        console.print(f"names below {MODELS}/ cannot be removed ({error.strerror})", style="yellow", soft_wrap=True)
        return 1
    if names:
        one = len(names) == 1
        console.print(
            f"removed {len(names)} name{'' if one else 's'} below {MODELS}/ whose model{' is' if one else 's are'} gone"
        )
    return 0


def _is_shared_name(given: ResolvedRequest, storage: Storage) -> bool:
    """Whether another recipe of this name ran last on the storage, so that its artifacts are not the given one's; then
    a line says so."""
    other = run_of_same_name(given.recipe, storage)
    if other is not None:
        line = (
            f"warning: name: {given.recipe.name} is also the name of {other.file}, which ran last on {storage}: what "
            "was made under that name is kept without --others; give each recipe a name of its own"
        )
        print(f"stillhouse: {line}", file=sys.stderr)
    return other is not None


def kept_lines(found: Survey, others: Sequence[UnusedArtifact], names: Set[str], least: str) -> Iterator[str]:
    """A line for each reason for which artifacts are kept, with their number and bytes. ``others`` are those that
    belong to further recipes than ``names``, or to none; ``least`` is the age below which all are kept."""
    for kept, why in (
        (found.needed, "these recipes need"),
        (found.in_use, "a run in progress uses or builds"),
        (found.young, f"no recipe named here needs, but younger than {least}"),
    ):
        if kept.count:
            yield f"{_artifacts(kept.count, kept.bytes)} that {why}"
    by_recipe: dict[str, list[UnusedArtifact]] = {}
    for one in others:
        by_recipe.setdefault(" and ".join(sorted(set(one.recipes) - names)), []).append(one)
    for recipe, belonging in sorted(by_recipe.items()):
        size = _artifacts(len(belonging), sum(one.bytes for one in belonging))
        why = f"that {recipe}, not named here, made or used" if recipe else "of which no recipe is recorded"
        yield f"{size} {why}; --others frees {'it' if len(belonging) == 1 else 'them'}, too"
    for recipe in sorted(found.uncertain - names):
        yield f"a list of what {recipe} used is damaged, so all may be its; the next run of {recipe} writes it anew"


def _artifacts(count: int, size: int) -> str:
    return f"{count:,} artifact{'' if count == 1 else 's'}, {size:,} bytes,"


def seconds_of(age: str) -> float:
    """``14d``, ``36h`` or ``30m`` in seconds. Raises RequestError."""
    found = _AGE.fullmatch(age)
    if found is None:
        raise RequestError(f"--older-than: {age}; give a whole number of days, hours or minutes, such as 14d, 36h, 30m")
    return float(found[1]) * _UNITS[found[2]]


def print_unused(unused: Sequence[UnusedArtifact], console: Console) -> None:
    """Print a table of what could be removed; red lines are kept in any case."""
    if not unused:
        return
    table = Table(header_style="bold")
    for head in ("node", "key", "what", "of recipe"):
        table.add_column(head, overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("age", justify="right")
    table.add_column("why", overflow="fold")
    for one in unused:
        row = (one.name, one.key[:12], one.kind, ", ".join(one.recipes), f"{one.bytes:,}", age_text(one.age), one.why)
        table.add_row(*map(Text, row), style="" if one.removable else "red")
    console.print(table)


def age_text(seconds: float) -> str:
    """An age in its largest unit, rounded down: 14d, 36h, 30m, 5s."""
    for unit, length in _UNITS.items():
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
