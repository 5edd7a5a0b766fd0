"""``quarantined.parquet``: the rows that a store lacks because the teacher's outputs for them are not finite.

    row_key      identity of the row's texts
    index        the row's place in its split as it was read
    split        train, or candidates
    not_finite   the columns that are not finite: "logits: nan; hidden_06: inf"

Rows of equal texts have one key and are all listed. The file is there only if a row is set aside
(``store.on_bad_rows: quarantine``).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.atomic import replacing
from stages.corpus.reader import read_row_table
from stages.corpus.row_key import KEY_BYTES
from stages.specs.teacher import QUARANTINED

WhatIsBad = Mapping[bytes, str]
"""Row key -> the columns of the row's outputs that are not finite."""

MOST_BAD = 0.01
"""The largest share of a store's rows that may be set aside: where more are not finite, the teacher is broken."""
BROKEN_SHARD_ROWS = 64
"""A shard of this many rows or more of which none is finite stops the stage as well."""


def write_bad_rows(path: Path, rows: WhatIsBad) -> None:
    """Write keys and columns alone: what a worker found in one shard."""
    table = pa.table({"row_key": pa.array(list(rows), pa.binary(KEY_BYTES)), "not_finite": list(rows.values())})
    _write(table, path)


def write_quarantined(directory: Path, rows: WhatIsBad, corpus: Path, splits: Sequence[str]) -> None:
    """Write ``quarantined.parquet`` for these rows of the splits of a corpus."""
    found: list[tuple[bytes, int, str]] = []
    for name in splits:
        split = read_row_table(corpus, name)
        places = zip(split.keys, split.index.tolist(), strict=True)
        found += [(key, index, name) for key, index in places if key in rows]
    columns = {
        "row_key": pa.array([key for key, _, _ in found], pa.binary(KEY_BYTES)),
        "index": pa.array([index for _, index, _ in found], pa.int64()),
        "split": pa.array([split for _, _, split in found], pa.string()),
        "not_finite": pa.array([rows[key] for key, _, _ in found], pa.string()),
    }
    _write(pa.table(columns), directory / QUARANTINED)


def _write(table: pa.Table, path: Path) -> None:
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd", write_page_checksum=True)


def read_quarantined(directory: Path) -> dict[bytes, str]:
    """The rows that are set aside from the store in ``directory``; {} if it has them all. Raises ValueError if the file
    cannot be read."""
    return read_bad_rows(directory / QUARANTINED) if (directory / QUARANTINED).exists() else {}


def read_bad_rows(path: Path) -> dict[bytes, str]:
    """The content of a file of ``write_quarantined`` or ``write_bad_rows``. Raises ValueError if it cannot be read."""
    try:
        table = pq.read_table(path, columns=["row_key", "not_finite"], page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: cannot be read ({reason}); stillhouse verify {path.parent} --repair makes it anew"
        ) from error
    return dict(zip(table["row_key"].to_pylist(), table["not_finite"].to_pylist(), strict=True))


def set_aside(stores: Iterable[Path]) -> frozenset[bytes]:
    """The keys of the rows that at least one of these stores lacks because they are quarantined there."""
    return frozenset(key for store in stores for key in read_quarantined(store))


def check_share(bad: WhatIsBad, rows: int) -> None:
    """Raises ValueError if more than ``MOST_BAD`` of a store's ``rows`` rows are bad."""
    if len(bad) > MOST_BAD * rows:
        key = min(bad)
        raise ValueError(
            f"the teacher's outputs: {len(bad):,} of {rows:,} rows are not finite, more than the {MOST_BAD:.0%} that "
            f"store.on_bad_rows: quarantine sets aside, among them row_key {key.hex()} ({bad[key]}); check the "
            "model's weights, or use store.precision: float32 where values are too large for float16"
        )
