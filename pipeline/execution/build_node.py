"""One node built: its stage run in its work directory, and what it left committed. Knows nothing of other nodes."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cluster.resources import Mirror, Place, Resources
from pipeline.artifacts.attempts import Attempt, check
from pipeline.artifacts.external_upload import place_in, ship, to_ship
from pipeline.artifacts.provenance import code_version, hardware
from pipeline.artifacts.record import Record, artifact_path, commit, content, describe
from pipeline.execution.job_env import snapshot
from pipeline.graph.fingerprint import plain
from pipeline.graph.nodes import Edge, ExternalInput, Node
from pipeline.monitor.run_view import RunView
from pipeline.storage import Files, Storage
from stages.specs.base import Spec
from stages.specs.teacher import PRIOR
from stages.table import STAGES, Stage

Records = Mapping[str, Record]
"""Artifacts that are there, by key."""


@dataclass(frozen=True)
class RunContext:
    """Where a run works: its storage, its recipe's name, its places, what each node gets of them, its view. ``told``
    hears of each artifact that is built. ``waited``: machines that are not there yet are waited for; ``joined`` looks
    whether those that have come will do, and raises ``RequestError``. ``stages`` says which function carries out which
    spec."""

    storage: Storage
    recipe: str
    place: Place
    resources: Callable[[Node], Resources]
    view: RunView
    store_limit: int | None = None
    clock: Callable[[], float] = time.time
    told: Callable[[Node, Record], None] = lambda *_: None
    waited: bool = False
    joined: Callable[[], None] = lambda: None
    stages: Mapping[type[Spec], Stage] = field(default_factory=lambda: STAGES)


def build(
    node: Node,
    attempt: Attempt,
    wanted: Resources,
    context: RunContext,
    records: Records,
    priors: Sequence[Record] = (),
) -> Record:
    """Run the stage and commit. Raises what the stage raises, and ``Fenced`` when another attempt took over.

    ``priors`` are earlier stores from which a teacher's rows may be carried over.
    """
    began = time.monotonic()
    write_lineage(node, context.recipe, attempt.out, priors)
    stage = context.stages[type(node.spec)]
    inputs = input_paths(node, context.storage, records)
    seen, folders = everywhere(node, inputs, context, records, priors)
    mirror = context.storage.mirror(attempt.folder, folders)
    on = context.place.on(wanted, context.view.listener(node), mirror)
    with brought(mirror):
        facts = stage(node.spec, seen, attempt.out, on)
    record = Record(
        stage=node.spec.stage,
        version=node.spec.version,
        key=node.key,
        name=node.name,
        recipe=context.recipe,
        spec=plain(node.spec),
        inputs=node.input_keys,
        attempt=attempt.name,
        files=describe(attempt.out),
        facts=facts,
        code=code_version(),
        workers=on.resources.workers,
        threads=wanted.cpus_per_worker,
        seconds=round(time.monotonic() - began, 3),
        committed=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=hardware(),
        places={name: place_of(path, context.storage.local) for name, path in inputs.items()},
        contents={name: content(context.storage, path) or node.input_keys[name] for name, path in inputs.items()},
        priors=tuple(prior.key for prior in priors),
        run=context.view.run,
        snapshot=snapshot(),
    )
    check(attempt)
    return commit(context.storage, attempt.out, record)


def everywhere(
    node: Node, inputs: Mapping[str, Path], context: RunContext, records: Records, priors: Sequence[Record]
) -> tuple[dict[str, Path], dict[str, Files]]:
    """Where the stage finds its inputs and priors, and the folders of the storage that hold them: on a place of several
    machines what only this one has is put into the storage first."""
    seen = dict(inputs)
    used = [*(records[source.key] for source in node.sources), *priors]
    folders = {record.folder: record.below() for record in used}
    several = context.waited or context.place.capacity().machines > 1
    for name, given in node.inputs.items():
        if several and isinstance(given, ExternalInput) and to_ship(given, context.storage):
            folder, files = ship(given, name, context.storage)
            folders[folder] = files
            seen[name] = place_in(folder, given, context.storage)
    seen |= {f"{PRIOR}{prior.key[:12]}": artifact_path(context.storage, prior) for prior in priors}
    return seen, folders


@contextmanager
def brought(mirror: Mirror | None) -> Iterator[None]:
    """The inputs here, while it lasts."""
    try:
        if mirror is not None:
            mirror.pull()
        yield
    finally:
        if mirror is not None:
            mirror.close()


def input_paths(node: Node, storage: Storage, records: Records) -> dict[str, Path]:
    """Where each input lies."""
    found = {}
    for name, given in node.inputs.items():
        if isinstance(given, Edge):
            found[name] = artifact_path(storage, records[given.source.key]) / given.part
        else:
            found[name] = given.path
    return found


def place_of(path: Path, storage: Path) -> str:
    """A path below the storage as it is told there; any other as it is."""
    return (path.relative_to(storage) if path.is_relative_to(storage) else path.absolute()).as_posix()


def write_lineage(node: Node, recipe: str, out: Path, priors: Sequence[Record] = ()) -> None:
    """``lineage.json``, published with the artifact: what it is, and of what it is made."""
    sources = {
        name: {"name": given.source.name if isinstance(given, Edge) else given.about, "key": node.input_keys[name]}
        for name, given in node.inputs.items()
    }
    sources |= {f"{PRIOR}{prior.key[:12]}": {"name": prior.name, "key": prior.key} for prior in priors}
    document = {"name": node.name, "stage": node.spec.stage, "key": node.key, "recipe": recipe, "inputs": sources}
    draft = out / "lineage.json.tmp"
    draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    os.replace(draft, out / "lineage.json")
