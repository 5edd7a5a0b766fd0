"""A bucket at one moment, for reading many records: listed once, and all records fetched together."""

from collections.abc import Mapping
from pathlib import Path

from cluster.resources import Mirror
from pipeline.storage.port import WORK, Entry, Files, Storage


class StorageSnapshot(Storage):
    """Answers reads as ``storage`` was when it was listed. Writes go to ``storage`` and are not seen by reads."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.url, self.local, self.shared = storage.url, storage.local, storage.shared
        self._found: dict[str, Entry] = {}
        for folder in storage.entries(""):
            if folder != WORK:
                self._found.update(storage.walk(folder))
        self._texts = dict(storage.read_many([name for name in self._found if name.endswith("/record.json")]))

    def read(self, name: str) -> str | None:
        if name.startswith(f"{WORK}/"):
            return self.storage.read(name)
        if name in self._found and name not in self._texts:
            text = self.storage.read(name)
            if text is None:
                return None
            self._texts[name] = text
        return self._texts.get(name)

    def entries(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        return sorted({name[len(start) :].partition("/")[0] for name in self._found if name.startswith(start)})

    def walk(self, folder: str = "") -> dict[str, Entry]:
        start = f"{folder}/" if folder else ""
        return {name: entry for name, entry in self._found.items() if name.startswith(start)}

    def write(self, name: str, text: str, *, durable: bool = False) -> None:
        self.storage.write(name, text, durable=durable)

    def create(self, name: str, text: str) -> bool:
        return self.storage.create(name, text)

    def remove(self, name: str) -> None:
        self.storage.remove(name)

    def drop(self, folder: str) -> None:
        self.storage.drop(folder)

    def where(self, name: str) -> str:
        return self.storage.where(name)

    def publish(self, out: Path, folder: str, files: Files) -> None:
        self.storage.publish(out, folder, files)

    def put(self, source: Path, name: str) -> None:
        self.storage.put(source, name)

    def fetch(self, folder: str, files: Files, user: str = "") -> Path:
        return self.storage.fetch(folder, files, user)

    def inspect(self, folder: str, files: Files) -> Path:
        return self.storage.inspect(folder, files)

    def release(self, user: str) -> None:
        self.storage.release(user)

    def adopt(self, old: str, new: str) -> None:
        self.storage.adopt(old, new)

    def mirror(self, out: str, inputs: Mapping[str, Files]) -> Mirror | None:
        return self.storage.mirror(out, inputs)

    def check(self) -> None:
        self.storage.check()
