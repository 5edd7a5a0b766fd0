"""Names on the hub: the commit that a storage pins them to, and the files at that commit."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.external_inputs import _parsed, _refused
from pipeline.storage import Storage

PINS = ".identity/pins.json"


@dataclass
class Pins:
    """Hub names -> commits, in ``storage``. A name is pinned on first use; ``refresh`` asks the hub again."""

    storage: Storage
    refresh: bool
    known: dict[str, str]
    moved: set[str] = field(default_factory=set)

    @staticmethod
    def load(storage: Storage, refresh: bool) -> "Pins":
        with _refused(storage.where(PINS), "read"):
            text = storage.read(PINS)
        return Pins(storage, refresh, _parsed(text, storage.where(PINS)) if text else {})

    def commit(self, repository: str, kind: str, where: str, branch: str = "main") -> str:
        """The commit of ``branch`` that ``repository`` (kind ``model`` or ``dataset``) is pinned to."""
        name = f"{kind}:{repository}@{branch}"
        if name not in self.known or (self.refresh and name not in self.moved):
            self.known[name] = _ask_hub(repository, kind, where, branch)
            self.moved.add(name)
            with _refused(self.storage.where(PINS), "written"):
                self.storage.write(PINS, json.dumps(self.known, indent=1, sort_keys=True) + "\n")
        return self.known[name]


def _ask_hub(repository: str, kind: str, where: str, branch: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of its HTTP library

    remedy = "name a directory" if kind == "model" else "set data.source to a folder of files"
    try:
        found = HfApi().repo_info(repository, repo_type=kind, revision=branch, timeout=10)
    except (HTTPError, OSError, ValueError) as error:
        raise RequestError(f"{where}: {repository} cannot be had from the hub ({_reason(error)}); {remedy}") from error
    if not found.sha:
        raise RequestError(f"{where}: the hub names no commit for {repository}; {remedy}")
    return str(found.sha)


def fetched_model(repository: str, commit: str, where: str) -> Path:
    """A directory with the hub's model at that commit, downloaded unless it is in the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError, as above
        HTTPError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
    )

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.spm"]
    fetch = partial(snapshot_download, repository, revision=commit, allow_patterns=patterns)
    with suppress(IncompleteSnapshotError, LocalEntryNotFoundError):
        # What a commit holds does not change: where it is here, the hub is not asked.
        return Path(fetch(local_files_only=True))
    try:
        return Path(fetch())
    except (HTTPError, OSError) as error:
        raise RequestError(
            f"{where}: {repository} at {commit[:12]} cannot be fetched ({_reason(error)}); name a directory"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
