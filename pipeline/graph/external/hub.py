"""Names on the hub: the commit that a storage pins them to, and the files at that commit."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.external.digests import cache_errors, parse_texts
from pipeline.storage import Storage

PINS = ".identity/pins.json"


@dataclass
class Pins:
    """Names on the hub -> commits, kept in ``storage``. A name is pinned on first use; with ``refresh``, it is pinned
    to the latest commit once more (``looked_up``). ``changed``: pins that the storage does not hold yet, because it is
    a directory that does not exist: a plan never makes one."""

    storage: Storage
    refresh: bool
    known: dict[str, str]
    looked_up: set[str] = field(default_factory=set)
    changed: bool = False

    @staticmethod
    def load(storage: Storage, refresh: bool) -> "Pins":
        """The pins of a storage. Raises RequestError."""
        with cache_errors(storage.where(PINS), "read"):
            text = storage.read(PINS)
        try:
            return Pins(storage, refresh, {} if text is None else parse_texts(text))
        except ValueError as error:
            # Not replaced by the latest commits: a pin decides which model or data set the artifacts were made of.
            raise RequestError(
                f"{storage.where(PINS)}: these pins of hub names are damaged ({error}); restore the file, or remove it "
                "to pin every name to its latest commit"
            ) from error

    def commit(self, repository: str, kind: str, where: str, branch: str = "main") -> str:
        """The commit to which a branch of a repository is pinned. ``kind`` is ``model`` or ``dataset``; ``where`` is
        the recipe's field, for errors. Raises RequestError."""
        name = f"{kind}:{repository}@{branch}"
        if name not in self.known or (self.refresh and name not in self.looked_up):
            self.known[name] = _latest_commit(repository, kind, where, branch)
            self.looked_up.add(name)
            self.changed = True
            self.save()
        return self.known[name]

    def save(self) -> None:
        """Write new pins to the storage, unless it is a directory that does not exist yet. Raises RequestError."""
        if not self.changed or (self.storage.shared and not self.storage.local.exists()):
            return
        with cache_errors(self.storage.where(PINS), "written"):
            self.storage.write(PINS, json.dumps(self.known, indent=1, sort_keys=True) + "\n", durable=True)
        self.changed = False


def _latest_commit(repository: str, kind: str, where: str, branch: str) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of its HTTP library

    folder = "set data.source to a folder of files" if where == "data.source" else "give files"
    remedy = "name a directory" if kind == "model" else folder
    try:
        found = HfApi().repo_info(repository, repo_type=kind, revision=branch, timeout=10)
    except (HTTPError, OSError, ValueError) as error:
        raise RequestError(f"{where}: {repository} cannot be found on the hub ({_reason(error)}); {remedy}") from error
    if not found.sha:
        raise RequestError(f"{where}: the hub names no commit for {repository}; {remedy}")
    return str(found.sha)


def download_model(repository: str, commit: str, where: str) -> Path:
    """A directory with the hub's model at a commit, downloaded unless it is in the hub's local cache. Raises
    RequestError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError, as above
        HTTPError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
    )

    patterns = ["*.safetensors", "*.json", "*.txt", "*.model", "*.spm"]
    fetch = partial(snapshot_download, repository, revision=commit)
    with suppress(IncompleteSnapshotError, LocalEntryNotFoundError):
        # A commit never changes, so a local copy needs no request to the hub.
        return Path(fetch(allow_patterns=patterns, local_files_only=True))
    try:
        # With its card, for the licence and the languages that the cards of students repeat.
        return Path(fetch(allow_patterns=[*patterns, "README.md"]))
    except (HTTPError, OSError) as error:
        raise RequestError(
            f"{where}: {repository} at {commit[:12]} cannot be fetched ({_reason(error)}); name a directory"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of a library's error, or its class where it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
