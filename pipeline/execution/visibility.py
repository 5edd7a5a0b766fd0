"""Before any work: do all nodes of a cluster see the storage, and what the run reads from outside?"""

import secrets
from collections.abc import Iterator

from cluster.resources import Place
from pipeline.artifacts.external_upload import to_ship
from pipeline.errors import RequestError
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.plan.planner import Plan
from pipeline.storage import Storage

REMEDY = "put it on a file system that all nodes share, at the same path"


def check_visible(plan: Plan, storage: Storage, place: Place) -> None:
    """Raises RequestError for the first path that a node lacks. What is put into the storage need not be seen.

    Where there is one node, nothing is asked.
    """
    if len(place.capacity().nodes) < 2:
        return
    wanted = dict(outside(plan, storage))
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
    for path, told in wanted.items():
        nodes = [node for node, lacking in unseen if lacking == path]
        if nodes:
            more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
            raise RequestError(f"{told} is not seen by node {nodes[0]}{more}; {REMEDY}")


def outside(plan: Plan, storage: Storage) -> Iterator[tuple[str, str]]:
    """(path, field and value) of all that the stages to be built read where it lies."""
    for step in plan.builds:
        for name, given in step.node.inputs.items():
            if isinstance(given, ExternalInput) and not to_ship(given, storage):
                yield str(given.path), f"{field(step.node, name, given)}: {given.path}"


def field(node: Node, name: str, given: ExternalInput) -> str:
    """Where in a recipe an input stands, as near as its node knows."""
    if name.startswith("data/"):
        return f"data.source (task {node.task})"
    if name.startswith("files/"):
        return "bank.files"
    if name == "synonyms":
        return "candidates.synonyms"
    return given.about if name == "tokenizer" else f"model {given.about}"
