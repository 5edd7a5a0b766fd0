"""The size of a text file, compressed or not."""

import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from stages.files.kinds import kind_of
from stages.files.rows import unpacked


@dataclass(frozen=True, slots=True)
class TextSize:
    """Lines and bytes of a text file, after decompression."""

    lines: int
    bytes: int


def text_size(path: Path) -> TextSize:
    """The size of a text file, which is read to its end. ValueError for a file that is cut short or damaged."""
    lines = size = 0
    _, compression = kind_of(path)
    with path.open("rb", buffering=2**20) as raw:
        try:
            for line in unpacked(raw, compression):
                lines += 1
                size += len(line)
        except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: this file is cut short or damaged ({reason}); copy it again") from error
    return TextSize(lines, size)
