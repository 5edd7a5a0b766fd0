"""A folder of links to the TensorBoard files of a recipe's trainings: task/method/student/seed -> an artifact's folder.

Artifacts are stored by key, and one may have names in several recipes. So the names are links, made on request.
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
"""The folder of an artifact into which ``stages.training.tensorboard`` writes."""


def link_curves(graph: Graph, storage: Storage, out: Path) -> Sequence[str]:
    """Make a link in ``out`` for each training that has curves, finished or in progress, and remove other links to this
    storage. Returns the links' names. Raises RequestError if a link cannot be made."""
    curves = {name: curves_of(node, storage) for name, node in named_trainings(graph).items()}
    existing = {name: folder for name, folder in curves.items() if folder is not None}
    try:
        for entry in sorted(out.rglob("*")):
            if entry.is_symlink() and links_to_curves(entry, storage):
                entry.unlink()
        for name, folder in existing.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).symlink_to(folder.absolute())
    except OSError as error:
        raise RequestError(f"--out: {out} cannot be written ({error.strerror}); give another folder") from error
    return sorted(existing)


def links_to_curves(link: Path, storage: Storage) -> bool:
    """Whether a link points to curves in this storage."""
    target = Path(os.readlink(link))
    return target.name == FOLDER and target.is_relative_to(storage.local.absolute())


def named_trainings(graph: Graph) -> dict[str, Node]:
    """Name -> node of each training. One that a report lists under several names is there under each of them."""
    own = {name_of(node): node for node in graph.nodes if isinstance(node.spec, DistilSpec)}
    reported = {}
    for node in graph.wanted:
        model = node.inputs.get("model")
        if node.subject is not None and isinstance(model, Edge) and model.part == MODEL:
            reported[name_of(node)] = model.source
    return {name: node for name, node in own.items() if node not in reported.values()} | reported


def name_of(node: Node) -> str:
    """task/method/student/seed for a node with a row in the report, else task/node name."""
    subject = node.subject
    if subject is None:
        return f"{node.task}/{node.name.partition('@')[0].replace('/', '-')}"
    return f"{node.task}/{subject.method}/{subject.student}/{subject.seed}"


def curves_of(node: Node, storage: Storage) -> Path | None:
    """The folder of curves in the node's artifact, else in its newest attempt; None if there is none yet."""
    record = find_for(storage, node)
    if record is not None:
        files = record.files_below(FOLDER)
        return storage.fetch(record.folder, files) / FOLDER if files else None
    attempts = (storage.local / WORK / node.key).glob(f"*/{FOLDER}")
    return max(attempts, default=None, key=os.fspath)
