"""One node built: its stage run in its work directory, and what it left committed. Knows nothing of other nodes."""

import importlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cluster.resources import Place, Resources
from pipeline.artifact import Record, artifact_path, commit, content, describe
from pipeline.fingerprint import plain
from pipeline.graph import Edge, Node
from pipeline.host import code_version, hardware
from pipeline.lease import Attempt, check
from pipeline.submitted import snapshot
from pipeline.view import View
from stages.specs import PRIOR

Records = Mapping[str, Record]
"""Artifacts that are there, by key."""


@dataclass(frozen=True)
class Site:
    """Where a run works: its storage, its recipe's name, its places, what each node gets of them, its view."""

    storage: Path
    recipe: str
    place: Place
    resources: Callable[[Node], Resources]
    view: View
    store_limit: int | None = None
    clock: Callable[[], float] = time.time


def build(
    node: Node, attempt: Attempt, wanted: Resources, site: Site, records: Records, priors: Sequence[Record] = ()
) -> Record:
    """Run the stage and commit. Raises what the stage raises, and ``Fenced`` when another attempt took over.

    ``priors`` are earlier stores from which a teacher's rows may be carried over.
    """
    began = time.monotonic()
    write_lineage(node, site.recipe, attempt.out, priors)
    stage = getattr(importlib.import_module(f"stages.{node.spec.stage}"), node.spec.stage)
    on = site.place.on(wanted, site.view.listener(node))
    inputs = input_paths(node, site.storage, records)
    earlier = {f"{PRIOR}{prior.key[:12]}": artifact_path(site.storage, prior) for prior in priors}
    facts = stage(node.spec, inputs | earlier, attempt.out, on)
    record = Record(
        stage=node.spec.stage,
        version=node.spec.version,
        key=node.key,
        name=node.name,
        recipe=site.recipe,
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
        places={name: place_of(path, site.storage) for name, path in inputs.items()},
        contents={name: content(site.storage, path) or node.input_keys[name] for name, path in inputs.items()},
        priors=tuple(prior.key for prior in priors),
        snapshot=snapshot(),
    )
    check(attempt)
    return commit(site.storage, attempt.out, record)


def input_paths(node: Node, storage: Path, records: Records) -> dict[str, Path]:
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
