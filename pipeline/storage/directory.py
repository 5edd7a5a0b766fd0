"""A storage in a directory: of this machine, or of a file system that all machines share.

Records and artifacts are published by hard links, which fail where a file exists: of two processes that publish under
one name, one succeeds. Nothing relies on renaming directories.

What is created or published outlasts a power failure once the call has returned: first the contents, then the names in
all folders down from the storage's own. A removal that has returned lasts, too: a withdrawn record does not come back
after its files are gone. ``write`` waits for nothing unless ``durable``.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.resources import Mirror
from pipeline.errors import RequestError
from pipeline.storage.port import LEASE, Entry, Files, Storage, UnreadableDocument
from stages.atomic import draft_of, make_folder, replacing, sync, sync_folders


class Directory(Storage):
    """The storage below the directory ``root``, which need not exist yet."""

    shared = True

    def __init__(self, root: Path) -> None:
        self.local = root
        self.url = str(root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Directory) and other.local == self.local

    def __hash__(self) -> int:
        return hash(self.local)

    def read(self, name: str) -> str | None:
        path = self.local / name
        try:
            return path.read_text("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (IsADirectoryError, PermissionError) as error:
            path.lstat()  # raises PermissionError where the folder around it is closed, too
            raise UnreadableDocument(error.errno, error.strerror, str(path)) from error

    def write(self, name: str, text: str, *, durable: bool = False) -> None:
        path = self.local / name
        if durable:
            make_folder(path.parent)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            self.drop(name)
        with replacing(path, durable=durable, volatile=not durable) as draft:
            draft.write_text(text, "utf-8")

    def create(self, name: str, text: str) -> bool:
        path = self.local / name
        make_folder(path.parent)
        draft = draft_of(path)
        draft.write_text(text, "utf-8")
        sync(draft)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        sync(path.parent)
        return True

    def remove(self, name: str) -> None:
        path = self.local / name
        try:
            path.unlink()
        except FileNotFoundError:
            return
        except IsADirectoryError:
            self.drop(name)
        with contextlib.suppress(FileNotFoundError):  # another process has removed the folder, too
            sync(path.parent)

    def drop(self, folder: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(self.local / folder)

    def entries(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.local / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, folder: str = "") -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for where, folders, files in os.walk(self.local / folder):
            folders.sort()
            for file in sorted(files):
                path = Path(where) / file
                try:
                    stat = path.lstat()
                except FileNotFoundError:  # a draft that has taken its place since, or a file that was removed
                    continue
                found[path.relative_to(self.local).as_posix()] = Entry(
                    stat.st_size, stat.st_mtime, (stat.st_dev, stat.st_ino), stat.st_nlink
                )
        return found

    def lacking(self, folder: str, files: Sequence[tuple[str, int]]) -> str:
        root = f"{self.local}/{folder}"
        for path, size in files:
            try:
                if os.stat(f"{root}/{path}").st_size != size:
                    return path
            except FileNotFoundError:
                return path
        return ""

    def where(self, name: str) -> str:
        return str(self.local / name)

    def publish(self, out: Path, folder: str, files: Files) -> None:
        make_folder(self.local)
        home = self.local / folder
        home.mkdir(parents=True, exist_ok=True)
        for path in files:
            target = home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            sync(out / path)
            os.link(out / path, target)
        sync_folders({home, *((home / path).parent for path in files)}, self.local)

    def put(self, source: Path, name: str) -> None:
        target = self.local / name
        make_folder(target.parent)
        with replacing(target, durable=True) as draft:
            shutil.copyfile(source, draft)

    def fetch(self, folder: str, files: Files, user: str = "") -> Path:  # noqa: ARG002  # the files are here
        return self.local / folder

    def inspect(self, folder: str, files: Files) -> Path:  # noqa: ARG002
        return self.local / folder

    def release(self, user: str) -> None:
        """Nothing to do: ``fetch`` returns files of the storage itself, which stay."""

    def adopt(self, old: str, new: str) -> None:
        before, targets = self.local / old, []
        for folder, _, files in os.walk(before) if (before / LEASE).exists() else ():
            target = self.local / new / Path(folder).relative_to(before)
            target.mkdir(parents=True, exist_ok=True)
            targets.append(target)
            for name in files:
                if name != LEASE and not name.endswith(".tmp"):
                    link(Path(folder) / name, target / name)
        with contextlib.suppress(FileNotFoundError):  # another run has committed, and removed all attempts
            sync_folders(targets, self.local / new)
        (before / LEASE).unlink(missing_ok=True)
        shutil.rmtree(before, ignore_errors=True)

    def mirror(self, out: str, inputs: Mapping[str, Files]) -> Mirror | None:  # noqa: ARG002
        return None

    def check(self) -> None:
        try:
            self.local.mkdir(parents=True, exist_ok=True)
            probe = self.local / f".probe-{os.getpid()}"
            probe.write_text("", "utf-8")
            probe.unlink()
        except OSError as error:
            raise RequestError(
                f"storage: {self.url} cannot be written ({error.strerror}); give a directory that you may write"
            ) from error


def link(source: Path, target: Path) -> None:
    """Link a file into a later attempt, unless a late writer of the old attempt has just removed it (it then counts as
    unfinished) or the later attempt has finished its own."""
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        os.link(source, target)
