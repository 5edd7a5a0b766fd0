"""``stillhouse verify --repair``: an attempt that keeps the sound shards of a store, computes the others, and commits a
new record. Any other damaged artifact is withdrawn, so that the next run builds it again."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.inline import Inline
from pipeline.artifacts.attempts import AttemptHeld, claim, release
from pipeline.artifacts.locate_inputs import input_path, teacher_model
from pipeline.artifacts.record import Record, record_name, withdraw
from pipeline.errors import RequestError, refused
from pipeline.execution.build_node import RunContext
from pipeline.execution.runner import run
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.monitor.run_view import RunView
from pipeline.plan.planner import Plan, Step
from pipeline.plan.resources import default
from pipeline.storage import Storage
from stages.atomic import sync
from stages.checksum import file_sha256
from stages.specs.teacher import QUARANTINED, TeachSpec


def repair(record: Record, storage: Storage, sound: Sequence[int], console: Console) -> Record | None:
    """The record of the repaired store; None for an artifact that was withdrawn. ``sound``: numbers of the shards to
    keep. Raises RequestError."""
    if record.stage != TeachSpec.stage:
        withdraw(storage, record.stage, record.key)
        console.print(f"{record.name}: withdrawn; the next run of its recipe builds it again", markup=False)
        return None
    node = node_of(record, storage)
    keep_sound_shards(record, storage, sound)
    step = Step(node, "build", "repair", node.rows, node.bytes)
    here = Inline()
    view = RunView(console, storage.local / ".logs" / f"repair-{record.key[:12]}", [node])
    context = RunContext(storage, record.recipe, here, lambda one: default(one.role, here.capacity()), view)
    with view.live():
        # Forced, so that damaged rows are computed by the teacher, not copied from another store.
        outcome = run(Plan((step,), frozenset({node.key})), context)
    failed = outcome.failures.get(node.key)
    if failed is not None:
        raise RequestError(
            f"{record.name}: not repaired ({failed.message}); its sound shards are kept for the next try"
        )
    return outcome.records[node.key]


def node_of(record: Record, storage: Storage) -> Node:
    """The node of a recorded store, with its inputs at their present paths. Raises RequestError."""
    paths = {
        name: teacher_model(record, storage) if name == "model" else input_path(record, name, storage)
        for name in record.inputs
    }
    inputs = {name: ExternalInput(record.inputs[name], path, str(path)) for name, path in paths.items()}
    with refused(record.name):
        spec = TeachSpec.model_validate(record.spec)
    task = record.name.partition("@")[2]
    node = Node(record.name, "teach", task, spec, inputs)
    if node.key != record.key:
        raise RequestError(f"{record.name}: its key is not the one that this version gives it; run its recipe again")
    return node


def is_sound(path: Path, sha256: str) -> bool:
    """Whether a file has this checksum; False where it cannot be read."""
    try:
        return file_sha256(path) == sha256
    except OSError:
        return False


def keep_sound_shards(record: Record, storage: Storage, sound: Sequence[int]) -> None:
    """Link the sound shards into a new attempt, which the build then continues, and withdraw the record. Raises
    RequestError."""
    attempt = claim(storage, record.stage, record.key, {}, time.time)
    if isinstance(attempt, AttemptHeld):
        raise RequestError(f"{record.name}: another run is working on it; try again when it has ended")
    home = storage.inspect(record.folder, record.files_below())
    numbers = {f"{number:05d}" for number in sound}
    for file in record.files:
        stem = Path(file.path).stem
        shard = stem.startswith(("shard-", "scales-")) and stem.partition("-")[2] in numbers
        # Rows that are set aside are not computed again, unless the list of them is damaged.
        listed = file.path == QUARANTINED and (home / file.path).is_file() and is_sound(home / file.path, file.sha256)
        if shard or listed:
            target = attempt.out / file.path
            if not target.exists():
                os.link(home / file.path, target)
    sync(attempt.out)
    withdraw(storage, record.stage, record.key)
    assert storage.read(record_name(record.stage, record.key)) is None
    release(attempt)
