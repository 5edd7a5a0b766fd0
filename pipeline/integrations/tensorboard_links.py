"""A folder of names for the curves of a recipe's trainings: task/method/student/seed -> where an artifact keeps them.

Artifacts lie by key, and one may have names in several recipes. So names are links, made when asked for.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts.record import find_for
from pipeline.errors import RequestError
from pipeline.graph.nodes import MODEL, Edge, Graph, Node
from pipeline.storage import Storage
from pipeline.storage.port import WORK
from stages.specs.student import DistilSpec

FOLDER = "tensorboard"
"""Of an artifact: what ``stages.training.tensorboard`` writes."""


def link_curves(graph: Graph, storage: Storage, out: Path) -> Sequence[str]:
    """Make ``out`` hold a link for each training that has curves, finished or under way, and no other link of
    ours. Returns the links' names. Raises RequestError where something else is in the way."""
    found = {name: curves_of(node, storage) for name, node in named_trainings(graph).items()}
    names = {name: place for name, place in found.items() if place is not None}
    try:
        for entry in sorted(out.rglob("*")):
            if entry.is_symlink() and ours(entry, storage):
                entry.unlink()
        for name, place in names.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).symlink_to(place.absolute())
    except OSError as error:
        raise RequestError(f"--out: {out} cannot be written ({error.strerror}); give another folder") from error
    return sorted(names)


def ours(link: Path, storage: Storage) -> bool:
    """Whether a link points to curves in this storage."""
    place = Path(os.readlink(link))
    return place.name == FOLDER and place.is_relative_to(storage.local.absolute())


def named_trainings(graph: Graph) -> dict[str, Node]:
    """Every model that is trained; one that a report knows by several names, by each of them."""
    own = {event_file_name(node): node for node in graph.nodes if isinstance(node.spec, DistilSpec)}
    told = {}
    for node in graph.wanted:
        model = node.inputs.get("model")
        if node.subject is not None and isinstance(model, Edge) and model.part == MODEL:
            told[event_file_name(node)] = model.source
    return {name: node for name, node in own.items() if node not in told.values()} | told


def event_file_name(node: Node) -> str:
    """task/method/student/seed; the node's own name where no report tells of it."""
    subject = node.subject
    if subject is None:
        return f"{node.task}/{node.name.partition('@')[0].replace('/', '-')}"
    return f"{node.task}/{subject.method}/{subject.student}/{subject.seed}"


def curves_of(node: Node, storage: Storage) -> Path | None:
    """Of the artifact, else of its newest attempt; None where nothing is drawn yet."""
    record = find_for(storage, node)
    if record is not None:
        files = record.below(FOLDER)
        return storage.fetch(record.folder, files) / FOLDER if files else None
    attempts = (storage.local / WORK / node.key).glob(f"*/{FOLDER}")
    return max(attempts, default=None, key=os.fspath)
