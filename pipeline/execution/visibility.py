"""Check before any work that every node of a cluster can read the storage and the files outside it."""

import secrets
from collections.abc import Iterator

from cluster.resources import Place
from pipeline.artifacts.external_upload import needs_upload
from pipeline.errors import RequestError
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.plan.planner import Plan
from pipeline.storage import Storage

REMEDY = "put it on a file system that all nodes share, at the same path"


def check_visible(plan: Plan, storage: Storage, place: Place) -> None:
    """Raises RequestError for the first path that a node does not have. Inputs that are uploaded to the storage are not
    checked, nor is anything on a cluster of one node."""
    if len(place.capacity().nodes) < 2:
        return
    wanted = dict(external_paths(plan, storage))
    probe = storage.local / f".probe-{secrets.token_hex(8)}" if storage.shared else None
    if probe is not None:
        try:
            probe.touch()
        except OSError as error:
            why = f"cannot be written ({error.strerror}); make room, or give another"
            raise RequestError(f"storage: {storage} {why}") from error
        wanted[str(probe)] = f"storage: {storage}"
    if not wanted:
        return
    try:
        unseen = place.unseen(list(wanted))
    except ConnectionError as error:
        raise RequestError(str(error)) from error
    finally:
        if probe is not None:
            probe.unlink(missing_ok=True)
    for path, what in wanted.items():
        nodes = [node for node, lacking in unseen if lacking == path]
        if nodes:
            more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
            raise RequestError(f"{what} is not visible on node {nodes[0]}{more}; {REMEDY}")


def external_paths(plan: Plan, storage: Storage) -> Iterator[tuple[str, str]]:
    """(path, field and value in the recipe) of each input that stages read from outside the storage."""
    for step in plan.builds:
        for name, given in step.node.inputs.items():
            if isinstance(given, ExternalInput) and not needs_upload(given, storage):
                yield str(given.path), f"{field(step.node, name, given)}: {given.path}"


def field(node: Node, name: str, given: ExternalInput) -> str:
    """The field of the recipe that names an input of ``node``."""
    if name.startswith("data/"):
        return f"data.source (task {node.task})"
    if name.startswith("files/"):
        return "bank.files"
    if name in ("synonyms", "vectors"):
        return f"candidates.{name}"
    return given.about if name == "tokenizer" else f"model {given.about}"
