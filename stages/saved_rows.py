"""Results for single rows, which a worker saves while it computes a shard, so that an interrupted shard goes on.

A shard is written as one file when all its rows are computed, which may take minutes. Until then, what has been
computed is saved every ``SAVE_SECONDS`` in a small file below the work folder; these files are removed when the shard
is written. So a stop loses about that many seconds of each worker, and a large store does not consist of small files.
numpy alone.
"""

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.atomic import replacing
from stages.corpus.row_key import KEY_BYTES, split_keys

SAVE_SECONDS = 15.0

Array = npt.NDArray[Any]


class SavedRows:
    """The saved rows of the shard ``name``, in the files ``<name>-0000.npz`` ... of ``directory``.

    ``found`` maps the key of each row that was saved before to its values: an array of one dimension for each column.
    """

    def __init__(self, directory: Path, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._name, self._clock = directory, name, clock
        self._saved = clock()
        self.found: dict[bytes, dict[str, Array]] = {}
        for path in self._paths():
            self._read(path)

    @property
    def due(self) -> bool:
        """Whether it is time to save what has been computed since the last time."""
        return self._clock() - self._saved >= SAVE_SECONDS

    def save(self, keys: Sequence[bytes], columns: Mapping[str, Sequence[Array] | Array]) -> None:
        """Write the values of the rows with these keys: for each column one array a row, of any shape."""
        content: dict[str, Any] = {"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)}
        for name, rows in columns.items():
            content[f"values-{name}"] = np.concatenate([np.ravel(row) for row in rows])
            content[f"sizes-{name}"] = np.array([np.size(row) for row in rows], np.int64)
        self._directory.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.stem[-4:]) for path in self._paths()]
        path = self._directory / f"{self._name}-{max(numbers, default=-1) + 1:04d}.npz"
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez(file, **content)
        self._saved = self._clock()

    def remove(self) -> None:
        """Remove all files: the shard is written."""
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob(f"{self._name}-[0-9][0-9][0-9][0-9].npz"))

    def _read(self, path: Path) -> None:
        """Add the rows of a file. One that cannot be read is ignored: its rows are computed again."""
        try:
            with np.load(path) as content:
                arrays = {name: content[name] for name in content.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return
        keys = split_keys(arrays["keys"].tobytes())
        rows: list[dict[str, Array]] = [{} for _ in keys]
        for name in (each.removeprefix("sizes-") for each in arrays if each.startswith("sizes-")):
            ends = np.cumsum(arrays[f"sizes-{name}"])[:-1]
            for row, values in zip(rows, np.split(arrays[f"values-{name}"], ends), strict=True):
                row[name] = values
        self.found |= dict(zip(keys, rows, strict=True))
