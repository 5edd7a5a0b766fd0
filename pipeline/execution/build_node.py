"""Build one node: run its stage in the directory of an attempt, and commit the files it wrote as an artifact."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cluster.resources import Mirror, Place, Resources
from cluster.share import WorkerShare
from pipeline.artifacts.attempts import Attempt, check
from pipeline.artifacts.external_upload import needs_upload, upload_input, uploaded_path
from pipeline.artifacts.provenance import code_version, hardware
from pipeline.artifacts.record import Record, artifact_path, commit, content_digest, describe, find_for, withdraw
from pipeline.execution.job_env import snapshot
from pipeline.graph.fingerprint import plain
from pipeline.graph.nodes import Edge, ExternalInput, Node
from pipeline.monitor.run_view import RunView
from pipeline.storage import Files, Storage
from stages.atomic import replacing
from stages.specs.base import Spec
from stages.specs.teacher import PRIOR
from stages.table import STAGES, Stage

Records = Mapping[str, Record]
"""The records of existing artifacts, by key."""


@dataclass(frozen=True)
class RunContext:
    """What the nodes of a run have in common.

    ``recipe`` is its name; ``resources`` maps a node to what it is allotted of ``place``. ``on_commit`` is called with
    each artifact that is built. ``machines_may_join``: some stage waits for machines that the cluster does not have
    yet. ``check_new_machines`` is called when machines have joined; it raises ``RequestError`` if one lacks files.
    ``deadline``: when the run is to stop, by its clock; None for never.
    ``stages`` maps the class of a spec to the function that runs it.
    """

    storage: Storage
    recipe: str
    place: Place
    resources: Callable[[Node], Resources]
    view: RunView
    store_limit: int | None = None
    clock: Callable[[], float] = time.time
    deadline: float | None = None
    on_commit: Callable[[Node, Record], None] = lambda *_: None
    machines_may_join: bool = False
    check_new_machines: Callable[[], None] = lambda: None
    stages: Mapping[type[Spec], Stage] = field(default_factory=lambda: STAGES)


def build(
    node: Node,
    attempt: Attempt,
    wanted: Resources,
    share: WorkerShare,
    context: RunContext,
    records: Records,
    priors: Sequence[Record] = (),
) -> Record:
    """Run the node's stage and commit its files; returns the record of the artifact.

    ``share`` says how many of the workers in ``wanted`` the stage may use at the moment.
    ``priors`` are earlier artifacts from which rows may be copied rather than computed. Raises what the stage raises,
    and ``Fenced`` when another attempt took over.
    """
    write_lineage(node, context.recipe, attempt.out, priors)
    stage = context.stages[type(node.spec)]
    inputs = input_paths(node, context.storage, records)
    paths, folders = stage_inputs(node, inputs, context, records, priors)
    mirror = context.storage.mirror(attempt.folder, folders)
    on = context.place.on(wanted, context.view.listener(node), mirror, share)
    with downloaded(mirror):
        facts = stage(node.spec, paths, attempt.out, on)
    record = Record(
        stage=node.spec.stage,
        version=node.spec.version,
        key=node.key,
        name=node.name,
        recipe=context.recipe,
        spec=plain(node.spec.as_built(facts)),
        inputs=node.input_keys,
        attempt=attempt.name,
        files=describe(attempt.out),
        facts=facts,
        code=code_version(),
        workers=on.resources.workers,
        threads=wanted.cpus_per_worker,
        seconds=round(share.seconds(), 3),
        full_seconds=round(share.full_seconds(), 3),
        committed=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=hardware(),
        places={name: recorded_location(path, context.storage.local) for name, path in inputs.items()},
        contents={
            name: content_digest(context.storage, path) or node.input_keys[name] for name, path in inputs.items()
        },
        priors=tuple(prior.key for prior in priors),
        run=context.view.run,
        snapshot=snapshot(),
    )
    check(attempt)
    if find_for(context.storage, node) is None:
        # A record that still stands is damaged, lacks files, or is of another spec. It has to go: the first record at a
        # key wins. One that another run has committed meanwhile is found, and stays.
        withdraw(context.storage, node.spec.stage, node.key)
    return commit(context.storage, attempt.out, record)


def stage_inputs(
    node: Node, inputs: Mapping[str, Path], context: RunContext, records: Records, priors: Sequence[Record]
) -> tuple[dict[str, Path], dict[str, Files]]:
    """Two mappings: input or prior -> the path at which the stage reads it, and the folders of the storage that hold
    those -> their files. On several machines, inputs that only this one has are uploaded to the storage first."""
    paths = dict(inputs)
    used = [*(records[source.key] for source in node.sources), *priors]
    folders = {record.folder: record.files_below() for record in used}
    several = context.machines_may_join or context.place.capacity().machines > 1
    for name, given in node.inputs.items():
        if several and isinstance(given, ExternalInput) and needs_upload(given, context.storage):
            folder, files = upload_input(given, name, context.storage)
            folders[folder] = files
            paths[name] = uploaded_path(folder, given, context.storage)
    paths |= {f"{PRIOR}{prior.key[:12]}": artifact_path(context.storage, prior) for prior in priors}
    return paths, folders


@contextmanager
def downloaded(mirror: Mirror | None) -> Iterator[None]:
    """Download the inputs through ``mirror``, if the storage is not on this machine, for as long as the block runs."""
    try:
        if mirror is not None:
            mirror.pull()
        yield
    finally:
        if mirror is not None:
            mirror.close()


def input_paths(node: Node, storage: Storage, records: Records) -> dict[str, Path]:
    """Input -> its path on this machine."""
    paths = {}
    for name, given in node.inputs.items():
        if isinstance(given, Edge):
            paths[name] = artifact_path(storage, records[given.source.key]) / given.part
        else:
            paths[name] = given.path
    return paths


def recorded_location(path: Path, storage: Path) -> str:
    """A path as a record keeps it: relative to the storage where it is below it, else absolute."""
    return (path.relative_to(storage) if path.is_relative_to(storage) else path.absolute()).as_posix()


def write_lineage(node: Node, recipe: str, out: Path, priors: Sequence[Record] = ()) -> None:
    """Write ``lineage.json``, which is published with the artifact: its name, key and recipe, and those of its inputs.

    Written before the stage runs, so that ``gc`` knows which artifacts an unfinished attempt uses.
    """
    sources = {
        name: {"name": given.source.name if isinstance(given, Edge) else given.about, "key": node.input_keys[name]}
        for name, given in node.inputs.items()
    }
    sources |= {f"{PRIOR}{prior.key[:12]}": {"name": prior.name, "key": prior.key} for prior in priors}
    document = {"name": node.name, "stage": node.spec.stage, "key": node.key, "recipe": recipe, "inputs": sources}
    with replacing(out / "lineage.json") as draft:
        draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
