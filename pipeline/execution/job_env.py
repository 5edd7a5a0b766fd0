"""The driver's side of a submission: what it was told by who sent it, and what it tells them."""

import json
import os
from collections.abc import Mapping

from pipeline.errors import RequestError

SNAPSHOT = "STILLHOUSE_SNAPSHOT"
"""The variable that holds the digest of the snapshot that this process is of."""
RESOLVED = "STILLHOUSE_RESOLVED"
"""The variable that holds the paths that were relative where the run was submitted: JSON, field -> as it was given."""
BEGUN = "begun: "
"""How the line begins in which a driver says that its request is accepted."""
SHARED = "give an absolute path on a file system that all nodes share"


def snapshot() -> str:
    """The digest of the snapshot of which this process is; '' where it is of none."""
    return os.environ.get(SNAPSHOT, "")


def environment(digest: str, resolved: Mapping[str, str]) -> dict[str, str]:
    """What a driver, and its workers, are told."""
    return {SNAPSHOT: digest, RESOLVED: json.dumps(dict(resolved))}


def check_relative(nodes: int) -> None:
    """Refuse paths that were relative to where the run was submitted, where the cluster may have several nodes."""
    resolved: dict[str, str] = json.loads(os.environ.get(RESOLVED, "{}"))
    for field, text in resolved.items():
        if nodes > 1:
            raise relative(field, text, SHARED, nodes)


def relative(field: str, text: str, remedy: str, nodes: int) -> RequestError:
    return RequestError(f"{field}: {text} is a relative path, and the cluster may have {nodes} nodes; {remedy}")


def report_begun(builds: int, artifacts: int, nodes: int) -> None:
    """Tell who waits for it that work begins; nothing where this process was not submitted."""
    if snapshot():
        where = f"{nodes} {'node' if nodes == 1 else 'nodes'}"
        print(f"{BEGUN}{builds} of {artifacts} artifacts to build, {where}", flush=True)
