"""A storage in a bucket of an object store, through fsspec: ``s3://`` by s3fs, ``gs://`` by gcsfs.

Credentials, region and endpoint come from the environment, as those libraries read them. A record is written by a
conditional put, which fails where one exists. Machines read artifacts through a cache (``cache.py``); the work folder
of a running stage is synchronised between machines (``mirror.py``).
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from cluster.resources import Mirror
from pipeline.errors import RequestError
from pipeline.storage.cache import ArtifactCache
from pipeline.storage.mirror import BucketMirror, Synced
from pipeline.storage.port import LEASE, WORK, Entry, Files, Storage
from stages.cache_folder import CacheFolder, cache_bound
from stages.checksum import file_sha256

Result = TypeVar("Result")

ATTEMPTS = 10
"""How often a request to a busy store is made, with growing pauses: for about two minutes in all."""
FILE_SECONDS, DOCUMENT_SECONDS = 60.0, 5.0
"""Seconds without an answer after which a request is made again."""
PARALLEL_FILES = 8
"""Files that are transferred at the same time."""


CONFLICT, PRECONDITION_FAILED = 409, 412
"""S3's answers to a conditional put: another client is writing or removing the name; the name exists."""
CONFLICT_SECONDS = 0.5
"""Seconds before a put that met another is tried again."""


class Bucket(Storage):
    """The storage under ``url``; what this machine reads or writes of it is kept in ``cache_folder``."""

    shared = False

    def __init__(self, url: str, cache_folder: CacheFolder) -> None:
        name = f"{url.partition('://')[2].replace('/', '-')[:40]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        self.url = url
        self.cache_folder = cache_folder
        self.local = cache_folder.bucket(name)
        self.cache = ArtifactCache(cache_folder, self.local)
        self._inspected: list[TemporaryDirectory[str]] = []  # removed when this process ends

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.url, self.cache_folder.root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    @cached_property
    def fs(self) -> Any:
        """The client for files of any size."""
        return self._client(ATTEMPTS)

    @cached_property
    def quick(self) -> Any:
        """The client for documents. Its time-out is short, so that a hanging request is repeated before a lease
        expires."""
        return self._client(ATTEMPTS, patience=DOCUMENT_SECONDS)

    def _client(self, attempts: int, patience: float = FILE_SECONDS) -> Any:
        import fsspec

        scheme = self.url.partition("://")[0]
        # gcsfs asks a second service for the kind of every bucket, and warns at each request where it may not.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        retries = {"mode": "standard", "max_attempts": attempts}
        settings = {"retries": retries, "connect_timeout": min(10.0, patience), "read_timeout": patience}
        # s3fs reads this variable itself; it is passed so that fsspec does not reuse a client of another endpoint.
        options = {"config_kwargs": settings, "endpoint_url": os.environ.get("AWS_ENDPOINT_URL")}
        return fsspec.filesystem(scheme, use_listings_cache=False, **(options if scheme == "s3" else {}))

    def reach(self) -> None:
        """Raises ``RequestError`` where the bucket does not exist or cannot be read. Gives up early."""
        client, bucket = self._client(2, DOCUMENT_SECONDS), self.url.partition("://")[2].partition("/")[0]
        client.retries = 1  # of fsspec's own, around those of the libraries below it
        try:
            try:
                self.request(client.ls, self.path(""), detail=False)
            except FileNotFoundError:  # nothing has been written below the prefix yet
                with suppress(PermissionError):  # the credentials may be for the prefix alone
                    self.request(client.ls, bucket, detail=False)
        except FileNotFoundError as error:
            raise self._no_bucket() from error
        except OSError as error:
            raise RequestError(
                f"storage: {self.url} cannot be read ({self._line(error)}); "
                "see its credentials and endpoint in the environment"
            ) from error

    def _no_bucket(self) -> RequestError:
        return RequestError(f"storage: {self.url}: there is no such bucket; make it first")

    def path(self, name: str) -> str:
        """The path of ``name`` for fsspec: bucket, prefix and name."""
        return f"{self.url.partition('://')[2]}/{name}".rstrip("/")

    def request(self, call: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Call the store's library and return its answer. Any error is raised as an ``OSError``."""
        try:
            return call(*arguments, **options)
        except OSError:
            raise
        except Exception as error:  # each library has its own classes; all mean that the request failed
            raise OSError(f"{self.url}: {type(error).__name__}: {error}") from error

    # --- documents ---

    def read(self, name: str) -> str | None:
        try:
            return _text(self.request(self.quick.cat_file, self.path(name)))
        except FileNotFoundError:
            return None

    def read_many(self, names: Sequence[str]) -> Mapping[str, str]:
        if not names:
            return {}
        paths = {self.path(name): name for name in names}
        found = self.request(self.quick.cat, list(paths), on_error="return")
        for answer in found.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise OSError(f"{self.url}: {answer}") from answer
        return {
            paths[path]: text.decode("utf-8", "surrogateescape")
            for path, text in found.items()
            if isinstance(text, bytes)
        }

    def write(self, name: str, text: str, *, durable: bool = False) -> None:  # noqa: ARG002  # it always is
        self.request(self.quick.pipe_file, self.path(name), text.encode("utf-8"))

    def create(self, name: str, text: str) -> bool:
        for _ in range(ATTEMPTS):
            try:
                self.request(self.quick.pipe_file, self.path(name), text.encode("utf-8"), mode="create")
            except OSError as error:
                if status_of(error) == CONFLICT:
                    time.sleep(CONFLICT_SECONDS)
                    continue
                if not isinstance(error, FileExistsError) and status_of(error) != PRECONDITION_FAILED:
                    raise
                # When an answer is lost and the put is repeated, the store refuses the text that it has already taken.
                return self.read(name) == text
            return True
        raise OSError(f"{self.where(name)}: other clients keep writing and removing it")

    def remove(self, name: str) -> None:
        try:
            self.request(self.quick.rm_file, self.path(name))
        except FileNotFoundError:
            return

    def drop(self, folder: str) -> None:
        names = list(self.walk(folder))
        if names:
            try:
                self.request(self.fs.rm, [self.path(name) for name in names])
            except FileNotFoundError:  # another process is dropping it, too
                for name in names:
                    self.remove(name)
        self.cache.drop(folder)

    def entries(self, folder: str) -> list[str]:
        try:
            found = self.request(self.quick.ls, self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        own = self.path(folder)
        return sorted({path.rstrip("/").rpartition("/")[2] for path in found if path.rstrip("/") != own})

    def walk(self, folder: str = "") -> dict[str, Entry]:
        found: Mapping[str, Mapping[str, Any]] = self.request(self.fs.find, self.path(folder), detail=True)
        start = len(self.path("")) + 1
        return {path[start:]: _entry(path, about) for path, about in sorted(found.items()) if len(path) >= start}

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    # --- files of artifacts ---

    def publish(self, out: Path, folder: str, files: Files) -> None:
        work = out.relative_to(self.local).as_posix()
        synced = Synced.load(self, work)

        def put(path: str) -> None:
            if synced.current(path):  # the bucket has it in the work folder already
                self.request(self.fs.cp_file, self.path(f"{work}/{path}"), self.path(f"{folder}/{path}"))
            else:
                self.request(self.fs.put_file, str(out / path), self.path(f"{folder}/{path}"))

        self._each(put, list(files))
        user = f"publish {folder}"
        self.cache.hold(user, folder)
        try:
            self.cache.take(folder, files, out)
        finally:
            self.cache.release(user)
        self.cache_folder.make_room()

    def put(self, source: Path, name: str) -> None:
        self.request(self.fs.put_file, str(source), self.path(name))

    def fetch(self, folder: str, files: Files, user: str = "") -> Path:
        self.cache.hold(user, folder)

        def download(path: str, draft: Path) -> None:
            self.download(f"{folder}/{path}", draft)
            size, digest = files[path]
            if draft.stat().st_size != size or file_sha256(draft) != digest:
                raise OSError(f"{self.where(folder)}/{path}: not what its record says; verify it with --repair")

        if self.cache.fill(folder, files, download):
            self.cache_folder.make_room()
        return self.local / folder

    def inspect(self, folder: str, files: Files) -> Path:
        # Not in the cache: damaged files must not be read by other processes, nor be hidden by sound cached ones.
        self.local.mkdir(parents=True, exist_ok=True)
        self._inspected.append(TemporaryDirectory(prefix=".inspected-", dir=self.local))
        home = Path(self._inspected[-1].name)

        def download(path: str) -> None:
            with suppress(FileNotFoundError):
                self.download(f"{folder}/{path}", home / path)

        self._each(download, list(files))
        return home

    def release(self, user: str) -> None:
        self.cache.release(user)

    def download(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self.request(self.fs.get_file, self.path(name), str(target))

    # --- work that is not committed ---

    def adopt(self, old: str, new: str) -> None:
        found = self.walk(old)
        if f"{old}/{LEASE}" in found:
            paths = [name[len(old) + 1 :] for name in found if not name.endswith(f"/{LEASE}")]
            have = {name[len(new) + 1 :] for name in self.walk(new)}
            todo = [path for path in paths if path not in have]
            self._each(lambda path: self._copy(f"{old}/{path}", f"{new}/{path}"), todo)
            Synced.adopt(self, old, new, found)
        self.remove(f"{old}/{LEASE}")
        self.drop(old)

    def _copy(self, source: str, target: str) -> None:
        """Copy a file within the bucket, unless a late writer has just removed it."""
        try:
            self.request(self.fs.cp_file, self.path(source), self.path(target))
        except FileNotFoundError:
            return

    def mirror(self, out: str, inputs: Mapping[str, Files]) -> Mirror | None:
        return BucketMirror(self, out, inputs)

    def check(self) -> None:
        """Raises ``RequestError`` unless the bucket can be written and honours conditional puts: a server that accepts
        a second put of a name that must be absent would let two runs commit the same key."""
        name = f"{WORK}/.probe-{os.urandom(8).hex()}"
        try:
            first, second = self.create(name, "first"), self.create(name, "second")
            self.remove(name)
        except FileNotFoundError as error:
            raise self._no_bucket() from error
        except OSError as error:
            raise RequestError(
                f"storage: {self.url} cannot be written ({self._line(error)}); see its credentials in the environment"
            ) from error
        if not first or second:
            raise RequestError(f"storage: {self.url}: this server does not honour conditional puts; use another")

    def snapshot(self) -> Storage:
        from pipeline.storage.snapshot_view import StorageSnapshot

        return StorageSnapshot(self)

    def _line(self, error: OSError) -> str:
        return (str(error).removeprefix(f"{self.url}: ").strip().splitlines() or [type(error).__name__])[0]

    def _each(self, do: Callable[[str], None], paths: Sequence[str]) -> None:
        with ThreadPoolExecutor(max_workers=PARALLEL_FILES) as pool:
            list(pool.map(do, paths))


def _reopened(url: str, root: Path) -> Bucket:
    """A bucket that was pickled elsewhere. The bound of the cache is that of this machine's environment."""
    return Bucket(url, CacheFolder(root, cache_bound(os.environ)))


def _entry(path: str, about: Mapping[str, Any]) -> Entry:
    version = next((str(about[name]) for name in ("ETag", "etag", "md5Hash", "generation") if about.get(name)), "")
    when = next((about[name] for name in ("LastModified", "mtime", "updated") if about.get(name)), None)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return Entry(int(about.get("size") or 0), when.timestamp() if when else 0.0, path, version=version)


def status_of(error: OSError) -> int | None:
    """The HTTP status of S3's answer, from the cause of the error that s3fs raised; None where there is none."""
    answer = getattr(error.__cause__, "response", None)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, Mapping) else None
    return int(status) if status else None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
