"""What ``stillhouse submit`` passes to the driver of a job in its environment, and the driver's answer in its log."""

import json
import os
from collections.abc import Mapping

from pipeline.errors import RequestError
from pipeline.recipe import Origin, Recipe

SNAPSHOT = "STILLHOUSE_SNAPSHOT"
"""Environment variable: the digest of the snapshot from which this process runs."""
RESOLVED = "STILLHOUSE_RESOLVED"
"""Environment variable: the paths of the recipe that were relative where the run was submitted, as JSON: field -> path
as it was given."""
ORIGIN = "STILLHOUSE_ORIGIN"
"""Environment variable: where the recipe was read from when the run was submitted, an ``Origin`` as JSON."""
BEGUN = "begun: "
"""Start of the line that a driver prints when it has accepted the request and begins to work."""
SHARED_PATH = "give an absolute path on a file system that all nodes share"


def snapshot() -> str:
    """The digest of the snapshot from which this process runs; '' if it was not submitted."""
    return os.environ.get(SNAPSHOT, "")


def environment(digest: str, resolved: Mapping[str, str], origin: Origin | None = None) -> dict[str, str]:
    """The environment variables of a driver and its workers."""
    return {
        SNAPSHOT: digest,
        RESOLVED: json.dumps(dict(resolved)),
        **({ORIGIN: origin.model_dump_json()} if origin is not None else {}),
    }


def origin_of(recipe: Recipe) -> Origin | None:
    """Where the recipe was read from; for a submitted run, where it was read when it was submitted, since the driver
    reads a copy with the changes made."""
    submitted = os.environ.get(ORIGIN)
    return Origin.model_validate_json(submitted) if submitted else recipe.origin


def check_relative(nodes: int) -> None:
    """Raise RequestError if the cluster may have several nodes and a path was relative where the run was submitted."""
    resolved: dict[str, str] = json.loads(os.environ.get(RESOLVED, "{}"))
    for field, text in resolved.items():
        if nodes > 1:
            raise relative_path_error(field, text, SHARED_PATH, nodes)


def relative_path_error(field: str, text: str, remedy: str, nodes: int) -> RequestError:
    """The error for a relative path in a recipe that is to run on several nodes."""
    return RequestError(f"{field}: {text} is a relative path, and the cluster may have {nodes} nodes; {remedy}")


def report_begun(builds: int, artifacts: int, nodes: int) -> None:
    """Print the line for which ``submit`` waits; nothing if this process was not submitted."""
    if snapshot():
        where = f"{nodes} {'node' if nodes == 1 else 'nodes'}"
        print(f"{BEGUN}{builds} of {artifacts} artifacts to build, {where}", flush=True)
