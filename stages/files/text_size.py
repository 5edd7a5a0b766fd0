"""The size of a text file, compressed or not."""

from dataclasses import dataclass
from pathlib import Path

from stages.files.kinds import COMPRESSIONS
from stages.files.rows import damage_named, unpacked


@dataclass(frozen=True, slots=True)
class TextSize:
    """Lines and bytes of a text file, after decompression."""

    lines: int
    bytes: int


def text_size(path: Path) -> TextSize:
    """The size of a text file, which is read to its end. ValueError for a file that is cut short or damaged."""
    lines = size = 0
    ending = path.suffix.lower().removeprefix(".")
    compression = ending if ending in COMPRESSIONS else ""
    with path.open("rb", buffering=2**20) as raw, damage_named(path):
        for line in unpacked(raw, compression):
            lines += 1
            size += len(line)
    return TextSize(lines, size)
