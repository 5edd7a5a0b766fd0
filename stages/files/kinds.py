"""The kinds of data files, by their names: a format, and perhaps a compression. Upper and lower case are alike.

.parquet    .csv    .tsv    .jsonl    .txt (a text a line)    the last four also .gz .zst .bz2 .xz
"""

from collections.abc import Sequence
from pathlib import Path
from stat import S_ISREG

import pyarrow as pa
import pyarrow.parquet as pq

TABLES = ("parquet", "csv", "tsv", "jsonl")
"""Formats that have columns."""
TEXTS = (*TABLES, "txt")
COMPRESSIONS = ("gz", "zst", "bz2", "xz")
MAGIC = {
    b"PAR1": "a Parquet file; let its name end in .parquet",
    b"\x1f\x8b": "compressed with gzip; let its name end in .gz",
    b"BZh": "compressed with bzip2; let its name end in .bz2",
    b"\xfd7zXZ\x00": "compressed with xz; let its name end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; let its name end in .zst",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old Excel; export it as CSV",
    b"SQLite format 3": "a SQLite database; export the table as CSV or Parquet",
    b"\xff\xfe": "in UTF-16; save the file as UTF-8",
    b"\xfe\xff": "in UTF-16; save the file as UTF-8",
}
"""First bytes of a file that is of another kind than its name says -> what it is, and the remedy."""


def kind_of(path: Path, kinds: Sequence[str] = TEXTS) -> tuple[str, str]:
    """(format, compression or "") of a file, by its name. ValueError for a name that ends in none of ``kinds``."""
    names = path.name.lower().split(".")
    compression = names.pop() if len(names) > 2 and names[-1] in COMPRESSIONS else ""
    kind = names[-1] if len(names) > 1 else ""
    if kind not in kinds or (kind == "parquet" and compression):
        raise ValueError(
            f"{path}: unknown kind of file {path.suffix!r}; use one of {', '.join(kinds)}; all but parquet also as "
            f".{', .'.join(COMPRESSIONS)}"
        )
    return kind, compression


def split_suffix(path: Path, kinds: Sequence[str]) -> str | None:
    """The name of a file of one of ``kinds`` without its endings; None for any other file."""
    try:
        kind, compression = kind_of(path, kinds)
    except ValueError:
        return None
    return path.name[: -len(".".join(("", kind, *filter(None, [compression]))))]


def check_regular(path: Path) -> None:
    """ValueError for a path that exists and is not a regular file: reading a pipe or a device may never end."""
    if path.exists() and not S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path}: a {'folder' if path.is_dir() else 'pipe or device'}; give a regular file")


def check_content(path: Path, kind: str, compression: str) -> None:
    """ValueError for a file whose first bytes are of another kind than its name says."""
    with path.open("rb") as file:
        head = file.read(16)
    if kind == "parquet" or compression:
        return
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            raise ValueError(f"{path}: this file is {found}")


def parquet_rows(path: Path) -> int:
    """The exact number of rows of a Parquet file, from its footer. ValueError for a file that is not a whole one."""
    with path.open("rb") as file:
        try:
            return int(pq.read_metadata(file).num_rows)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(not_parquet(path, error)) from error


def not_parquet(path: Path, error: Exception) -> str:
    """The error message, one line, for a Parquet file that cannot be read."""
    reason = str(error).splitlines()[0]
    if "encrypted" in reason:
        return f"{path}: this Parquet file is encrypted ({reason}); write it without encryption"
    return f"{path}: not a whole Parquet file ({reason}); copy or write it again"
