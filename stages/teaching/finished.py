"""The shards of a store that have been written already."""

from collections.abc import Sequence
from pathlib import Path

from stages.checksum import file_sha256
from stages.outputs.layout import Layout, ShardFile, scales_name, shard_name
from stages.outputs.parquet import Damaged, footer_sha256, read_row_keys


def finished_shards(out: Path, layout: Layout, numbers: Sequence[int]) -> list[tuple[ShardFile, list[bytes]]]:
    """Those of the shards with these numbers that are in ``out`` and can be read, with their row keys. One that cannot
    be read is removed, so that its rows are computed again."""
    found = []
    for number in numbers:
        path, scales = out / shard_name(number), out / scales_name(number)
        try:
            keys = read_row_keys(path)
        except Damaged:
            path.unlink(missing_ok=True)
            continue
        checksum = file_sha256(scales) if layout.precision == "int8" else ""
        size, digest, footer = path.stat().st_size, file_sha256(path), footer_sha256(path)
        found.append((ShardFile(number, len(keys), size, digest, footer, checksum), keys))
    return found
