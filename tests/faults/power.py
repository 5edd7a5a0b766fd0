"""A power failure at every moment of a piece of code, as the worst file system that POSIX allows would bear it.

The code runs on a real directory. Before each operation on names (link, rename, removal, creation of a folder) and each
fsync, the directory is compared with what was last waited for:

- the content of a file is on the disk as it was at the last fsync of the file; of later writes nothing may be, a part,
  zeros in their place, or all;
- a name in a folder is there as it was at the last fsync of the folder, or as it was at any moment since, independently
  of all other names. A rename is whole or did not happen.

``Power.states`` yields a directory for each moment and each of several choices; the tests have the real readers read
it.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("link", "symlink", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "fsync")
RANDOM_CHOICES = 3

Check = Callable[[Path], None]
Content = bytes | None
Names = dict[str, list[int | None]]
"""Name -> the inodes that it had since the last fsync of its folder, in order; None where it did not exist."""


@dataclass(frozen=True)
class Moment:
    """What may be on the disk before one operation: the names of each folder and the contents of each file, by inode.
    ``promises`` are what was promised to outlast a power failure by then."""

    operation: str
    names: dict[int, Names]
    synced: dict[int, bytes]
    present: dict[int, bytes]
    promises: tuple[Check, ...]


@dataclass
class Power:
    """The directory ``root``, and all moments at which its power may fail."""

    root: Path
    names: dict[int, Names] = field(default_factory=dict)
    synced: dict[int, bytes] = field(default_factory=dict)
    present: dict[int, bytes] = field(default_factory=dict)
    promises: list[Check] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    handles: dict[int, int] = field(default_factory=dict)

    def states(self, folder: Path, besides: str = "") -> Iterator[tuple[str, Path, tuple[Check, ...]]]:
        """(operation, the directory after the power failed before it, the promises), each different one once. Folders
        that are called ``besides`` are left out."""
        seen = set()
        for number, moment in enumerate(self.moments):
            for choice in range(3 + RANDOM_CHOICES):
                files, folders = self._survivors(moment, choice, besides)
                state = (tuple(sorted(files.items())), tuple(sorted(folders)), moment.promises)
                if state in seen:
                    continue
                seen.add(state)
                home = folder / f"{number:03d}-{choice}"
                for path in sorted(folders):
                    (home / path).mkdir(parents=True)
                for path, content in files.items():
                    (home / path).write_bytes(content)
                yield f"{number} {moment.operation}, choice {choice}", home, moment.promises

    def _survivors(self, moment: Moment, choice: int, besides: str) -> tuple[dict[str, bytes], set[str]]:
        draw = random.Random(f"{moment.operation} {choice}")
        contents: dict[int, bytes] = {}

        def content_of(inode: int) -> bytes:
            if inode not in contents:
                synced, present = moment.synced.get(inode), moment.present[inode]
                torn = [synced or b"", b"\0" * len(present), present[: len(present) // 2], present]
                contents[inode] = present if synced == present else torn[choice if choice < 2 else draw.randrange(4)]
            return contents[inode]

        files: dict[str, bytes] = {}
        folders = {"."}

        def visit(inode: int, path: str) -> None:
            for name, values in moment.names[inode].items():
                # The oldest names with the oldest contents; the latest names; then any of them.
                value = values[0] if choice == 2 else values[-1] if choice < 2 else draw.choice(values)
                if name == besides:
                    continue
                if value is not None and value in moment.names:
                    folders.add(f"{path}{name}")
                    visit(value, f"{path}{name}/")
                elif value is not None:
                    files[f"{path}{name}"] = content_of(value)

        visit(self.root.stat().st_ino, "")
        return files, folders

    # --- while the code runs ---

    def moment(self, operation: str) -> None:
        self._scan()
        self.moments.append(
            Moment(
                operation,
                {inode: {name: list(values) for name, values in names.items()} for inode, names in self.names.items()},
                dict(self.synced),
                dict(self.present),
                tuple(self.promises),
            )
        )

    def fsync(self, handle: int) -> None:
        """The file or folder is on the disk as it is now."""
        self._scan()
        inode = os.fstat(handle).st_ino
        if inode in self.names:
            self.names[inode] = {name: values[-1:] for name, values in self.names[inode].items() if values[-1]}
        elif inode in self.present:
            self.synced[inode] = self.present[inode]

    def _scan(self) -> None:
        found: dict[int, dict[str, int]] = {}
        ahead = [self.root]
        while ahead:
            folder = ahead.pop()
            names = found.setdefault(self._inode(folder), {})
            for entry in os.scandir(folder):
                inode = names[entry.name] = self._inode(Path(entry.path))
                if entry.is_dir(follow_symlinks=False):
                    ahead.append(Path(entry.path))
                else:
                    self.present[inode] = Path(entry.path).read_bytes()
        for inode in {*self.names, *found}:
            known, now = self.names.setdefault(inode, {}), found.get(inode, {})
            for name in {*known, *now}:
                values = known.setdefault(name, [None])
                if values[-1] != now.get(name):
                    values.append(now.get(name))

    def _inode(self, path: Path) -> int:
        """The number of a file's inode. It is kept open, so that no later file gets the same number."""
        inode = path.lstat().st_ino
        if inode not in self.handles:
            self.handles[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        return inode


@contextmanager
def watched(root: Path) -> Iterator[Power]:
    """Record the moments of the block. What ``root`` holds before it is on the disk."""
    power = Power(root)
    power._scan()
    for inode, names in power.names.items():
        power.names[inode] = {name: values[-1:] for name, values in names.items()}
    power.synced = dict(power.present)
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, _observed(power, name, getattr(os, name)))
        try:
            yield power
            power.moment("the end")
        finally:
            for handle in power.handles.values():
                os.close(handle)


def _observed(power: Power, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def observed(*arguments: Any, **options: Any) -> Any:
        what = Path(str(arguments[-1 if name in ("link", "replace", "rename") else 0])).name
        power.moment(f"{name} {what}")
        result = call(*arguments, **options)
        if name == "fsync":
            power.fsync(arguments[0])
        return result

    return observed
