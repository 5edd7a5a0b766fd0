"""Unlabelled texts -> a bank: clean, of bounded length, distinct. ``stages/bank/reader.py`` has the format.

In three passes, none of which holds the bank in memory: texts are read, cleaned and written in pieces with their keys
(``ingest``); duplicates are found by the keys, one range of keys at a time (``dedup``); the rest is written in parts,
in the order of files and rows. A run that is cut goes on from its finished pieces and parts.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import On, Worker
from stages.bank.cleaning import filter_names
from stages.bank.dedup import BUCKET_ROWS, DUPLICATE, KEPT, NEAR, KeyRange, buckets, repeated_rows, save
from stages.bank.ingest import Piece, Raw, Stream, open_raw, read_raw
from stages.bank.reader import COLUMNS, META, bank_part
from stages.bank.sources import spans
from stages.corpus.reader import SCRATCH
from stages.corpus.row_key import KEY_BYTES, row_key
from stages.specs.bank import BankSpec, GeneratedTexts, HubTexts
from stages.specs.corpus import Files
from stages.specs.input_names import in_order

FILES = "files/"
PART_ROWS = 65_536
MARKS = "marks.bin"

Marks = npt.NDArray[np.uint8]


def bank(spec: BankSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, int]:
    """Inputs: ``files/0``, ``files/1`` ..., or none for texts of the hub and generated ones.

    Returns ``rows`` and what each filter took, as ``bank.json`` has it. ValueError for files that cannot be used, and
    where no text is left.
    """
    scratch = out / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    streams = streams_of(spec, inputs)
    if any(stream.size for stream in streams):  # what comes from elsewhere has no known size
        on.expect(sum(stream.size for stream in streams) / 1e6, "MB")
    found = dict(on.map(open_raw, Raw(spec, scratch), streams))
    pieces = [piece for number in range(len(streams)) for piece in found[number]]
    filters = _summed(spec, pieces)
    starts = np.cumsum([0] + [piece.rows for piece in pieces])
    marks = _marked(spec, pieces, starts.tolist(), scratch, on)
    marked = _counted(marks)
    filters["duplicates"] = marked[DUPLICATE]
    if spec.near_duplicates:
        filters["near_duplicates"] = marked[NEAR]
    if not marked[KEPT]:
        took = ", ".join(f"{name} {count}" for name, count in filters.items())
        raise ValueError(
            f"bank: no text is left of what was read ({took}); change the bounds, the columns or the files"
        )
    parts = _write_parts(spec, pieces, starts.tolist(), marks, out, on)
    _write_meta(spec, parts, filters, out)
    return {"rows": sum(parts), **filters}


def streams_of(spec: BankSpec, inputs: Mapping[str, Path]) -> list[Stream]:
    """What is read side by side, in the order of the bank."""
    match spec.source:
        case Files():
            files = in_order(FILES, inputs)
            if not files:
                raise ValueError(
                    "files: none is given; a bank needs one file of texts at least, or a source on the hub"
                )
            found = [span for path in files for span in spans(path, spec.text)]
            return [Stream(number, span.size, span) for number, span in enumerate(found)]
        case HubTexts():
            return [Stream(0, 0)]
        case GeneratedTexts():
            if len(spec.text) != 1:
                raise ValueError(f"text: {len(spec.text)} columns, but the generator makes single texts; name one")
            return [Stream(0, 0)]
        case _:
            assert_never(spec.source)


def _summed(spec: BankSpec, pieces: Sequence[Piece]) -> dict[str, int]:
    return {name: sum(piece.filters[name] for piece in pieces) for name in filter_names(spec)}


# --- what is there twice ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Find:
    """What a worker needs to look for repeated rows."""

    scratch: Path
    pieces: tuple[str, ...]
    starts: tuple[int, ...]


def open_finder(config: Find, worker: Worker) -> Callable[[KeyRange], Path]:
    """What leaves the repeated rows of a bucket in a file."""

    def find(bucket: KeyRange) -> Path:
        worker.note(f"looks for duplicates: kind {bucket.kind}, {bucket.number + 1} of {bucket.of}")
        rows = repeated_rows(config.scratch, config.pieces, config.starts, bucket)
        path = config.scratch / f"repeated-{bucket.kind}-{bucket.number}.npy"
        save(path, rows)
        return path

    return find


def _marked(spec: BankSpec, pieces: Sequence[Piece], starts: Sequence[int], scratch: Path, on: On) -> Marks:
    """[raw rows] in a mapped file: ``KEPT``, ``DUPLICATE`` or ``NEAR``."""
    if not starts[-1]:
        return np.empty(0, np.uint8)
    (scratch / MARKS).unlink(missing_ok=True)  # an earlier attempt may still have it open
    marks = np.memmap(scratch / MARKS, np.uint8, "w+", shape=(starts[-1],))
    items = buckets(starts[-1], spec.near_duplicates)
    config = Find(scratch, tuple(piece.name for piece in pieces), tuple(starts[:-1]))
    for item, path in on.map(open_finder, config, items):
        rows = np.load(path)
        marks[rows] = DUPLICATE if items[item].kind == 0 else np.where(marks[rows] == DUPLICATE, DUPLICATE, NEAR)
        path.unlink()
    marks.flush()  # workers of other nodes read them
    return marks


def _counted(marks: Marks) -> list[int]:
    """How many rows are ``KEPT``, ``DUPLICATE`` and ``NEAR``, a block at a time."""
    counts = np.zeros(3, np.int64)
    for start in range(0, len(marks), BUCKET_ROWS):
        counts += np.bincount(marks[start : start + BUCKET_ROWS], minlength=3)
    found: list[int] = counts.tolist()
    return found


# --- parts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WriteParts:
    """What a worker needs to write parts. ``marks`` maps ``rows`` bytes."""

    out: Path
    columns: tuple[str, ...]
    starts: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BankPart:
    """The part ``number``: so many kept rows, from the raw row ``first`` on."""

    number: int
    first: int
    rows: int


def _write_parts(
    spec: BankSpec, pieces: Sequence[Piece], starts: Sequence[int], marks: Marks, out: Path, on: On
) -> list[int]:
    """Write every part that is not there yet; return the rows of each."""
    items = list(_parts(marks))
    missing = [part for part in items if _rows_of(bank_part(out, part.number)) != part.rows]
    names = tuple(piece.name for piece in pieces)
    config = WriteParts(out, COLUMNS[: len(spec.text)], tuple(starts), names)
    for _ in on.map(open_writer, config, missing):
        pass
    return [part.rows for part in items]


def _parts(marks: Marks) -> Sequence[BankPart]:
    """``PART_ROWS`` kept rows each, the last what is left. Looks at the marks a block at a time."""
    found: list[BankPart] = []
    first, held = 0, 0
    for start in range(0, len(marks), PART_ROWS):
        kept = start + np.flatnonzero(marks[start : start + PART_ROWS] == KEPT)
        while held + len(kept) >= PART_ROWS:
            taken = PART_ROWS - held
            found.append(BankPart(len(found), first, PART_ROWS))
            first, held, kept = int(kept[taken - 1]) + 1, 0, kept[taken:]
        held += len(kept)
    if held:
        found.append(BankPart(len(found), first, held))
    return found


def open_writer(config: WriteParts, worker: Worker) -> Callable[[BankPart], None]:
    """What writes a part, whole or not at all."""
    marks = np.memmap(config.out / SCRATCH / MARKS, np.uint8, "r")

    def write(part: BankPart) -> None:
        worker.note(f"writes part {part.number}")
        tables, left = [], part.rows
        piece = int(np.searchsorted(config.starts, part.first, side="right")) - 1
        while left:
            begin, end = max(part.first, config.starts[piece]), config.starts[piece + 1]
            kept = np.flatnonzero(marks[begin:end] == KEPT)[:left] + begin - config.starts[piece]
            if len(kept):
                tables.append(read_raw(config.out / SCRATCH, config.pieces[piece]).take(pa.array(kept)))
            left -= len(kept)
            piece += 1
        _write(config, part.number, pa.concat_tables(tables).combine_chunks())

    return write


def _write(config: WriteParts, number: int, texts: pa.Table) -> None:
    rows = zip(*(texts[name].to_pylist() for name in config.columns), strict=True)
    keys = pa.array([row_key(row) for row in rows], pa.binary(KEY_BYTES))
    draft = config.out / SCRATCH / f"part-{number:05d}.tmp"
    pq.write_table(texts.add_column(0, "row_key", keys), draft, compression="zstd", use_dictionary=False)
    os.replace(draft, bank_part(config.out, number))


def _rows_of(path: Path) -> int:
    """The rows of a part that is there, or -1."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return -1


def _write_meta(spec: BankSpec, parts: Sequence[int], filters: Mapping[str, int], out: Path) -> None:
    stated = {"columns": COLUMNS[: len(spec.text)], "parts": parts, "filters": filters}
    draft = out / SCRATCH / META
    draft.write_text(json.dumps(stated, indent=1) + "\n", "utf-8")
    os.replace(draft, out / META)
