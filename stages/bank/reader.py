"""The format of a bank, and its reader. pyarrow alone.

part-00000.parquet   row_key, and the text columns: ``text``, and for pairs ``text2``
bank.json            rows of each part, and how many rows each filter removed; written last
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

META = "bank.json"
COLUMNS = ("text", "text2")


@dataclass(frozen=True, slots=True)
class BankMeta:
    """``parts`` has the rows of each part. ``filters`` maps each filter, in the order of application, to the rows that
    it removed; its first entry, ``read``, is the number of rows before all filters."""

    columns: tuple[str, ...]
    parts: tuple[int, ...]
    filters: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.parts)

    @property
    def pair(self) -> bool:
        return len(self.columns) == 2


def read_bank_meta(directory: Path) -> BankMeta:
    """ValueError where there is no finished bank."""
    path = directory / META
    if not path.is_file():
        raise ValueError(f"bank: {path} is not there; {directory} holds no finished bank")
    stated = json.loads(path.read_text("utf-8"))
    return BankMeta(tuple(stated["columns"]), tuple(stated["parts"]), stated["filters"])


def bank_part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:05d}.parquet"


def read_bank_part(directory: Path, number: int, columns: Sequence[str] | None = None) -> pa.Table:
    """A part, or only ``columns`` of it. ValueError where it cannot be read."""
    path = bank_part(directory, number)
    try:
        with path.open("rb") as file:
            return pq.ParquetFile(file).read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this part cannot be read ({reason}); build the bank again") from error


def read_bank_rows(directory: Path, rows: npt.NDArray[np.int64]) -> list[tuple[str, ...]]:
    """The texts of ``rows``, numbered across all parts, in the order given. Reads the parts that hold them, one at a
    time."""
    meta = read_bank_meta(directory)
    ends = np.cumsum(np.array(meta.parts, np.int64))
    found: list[tuple[str, ...]] = [()] * len(rows)
    parts = np.searchsorted(ends, rows, side="right")
    for number in np.unique(parts).tolist():
        places = np.flatnonzero(parts == number)
        inside = rows[places] - (ends[number] - meta.parts[number])
        table = read_bank_part(directory, number, meta.columns).take(pa.array(inside))
        texts = zip(*(table[name].to_pylist() for name in meta.columns), strict=True)
        for place, row in zip(places.tolist(), texts, strict=True):
            found[place] = row
    return found
