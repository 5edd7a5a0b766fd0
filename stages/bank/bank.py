"""The stage ``bank``: unlabelled texts -> clean, distinct texts of bounded length (format: ``stages/bank/reader.py``).

Three passes, none of which holds the bank in memory: ``ingest`` reads and cleans the texts and writes them as raw parts
with a hash key for each row; ``dedup`` finds rows with equal keys, one range of keys at a time; then the rows that are
no duplicates, or a sample of them (``sample``), are written as the parts of the bank, in the order of files and rows.
An interrupted run goes on from the raw parts and parts that it finished.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import On, Worker
from stages.atomic import replacing
from stages.bank.cleaning import filter_names
from stages.bank.dedup import BUCKET_ROWS, DUPLICATE, KEPT, NEAR_DUPLICATE, KeyRange, buckets, repeated_rows, save
from stages.bank.ingest import IngestJob, RawPart, TextStream, open_ingest, read_raw_part
from stages.bank.reader import COLUMNS, META, bank_part
from stages.bank.sample import keep_sample
from stages.bank.sources import spans
from stages.corpus.reader import SCRATCH
from stages.corpus.row_key import KEY_BYTES, row_key
from stages.specs.bank import BankSpec, GeneratedTexts, HubTexts
from stages.specs.corpus import Files
from stages.specs.input_names import in_order

FILES = "files/"
PART_ROWS = 65_536
ROW_STATES = "row-states.bin"

RowStates = npt.NDArray[np.uint8]


def bank(spec: BankSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, int]:
    """Write a bank to ``out``. Inputs: ``files/0``, ``files/1`` ...; none for texts of the hub and generated texts.

    Returns ``rows`` and how many rows each filter removed, as in ``bank.json``. ValueError for files that cannot be
    used, and where the filters leave no text.
    """
    scratch = out / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    streams = text_streams(spec, inputs)
    if any(stream.size for stream in streams):  # texts of the hub and generated texts have no known size
        on.expect(sum(stream.size for stream in streams) / 1e6, "MB")
    found = dict(on.map(open_ingest, IngestJob(spec, scratch), streams))
    raw_parts = [raw_part for number in range(len(streams)) for raw_part in found[number]]
    filters = _summed(spec, raw_parts)
    starts = np.cumsum([0] + [raw_part.rows for raw_part in raw_parts])
    states = _row_states(spec, raw_parts, starts.tolist(), scratch, on)
    state_counts = _count_states(states)
    filters["duplicates"] = state_counts[DUPLICATE]
    if spec.near_duplicates:
        filters["near_duplicates"] = state_counts[NEAR_DUPLICATE]
    if not state_counts[KEPT]:
        took = ", ".join(f"{name} {count}" for name, count in filters.items())
        raise ValueError(
            f"bank: no text is left of what was read ({took}); change the bounds, the columns or the files"
        )
    if spec.rows is not None:
        filters["not_sampled"] = keep_sample(scratch, [raw_part.name for raw_part in raw_parts], states, spec.rows)
    parts = _write_parts(spec, raw_parts, starts.tolist(), states, out, on)
    _write_meta(spec, parts, filters, out)
    return {"rows": sum(parts), **filters}


def text_streams(spec: BankSpec, inputs: Mapping[str, Path]) -> list[TextStream]:
    """The streams that workers read in parallel, in the order of the bank's rows."""
    match spec.source:
        case Files():
            files = in_order(FILES, inputs)
            if not files:
                raise ValueError(
                    "files: none is given; a bank needs one file of texts at least, or a source on the hub"
                )
            found = [span for path in files for span in spans(path, spec.text)]
            return [TextStream(number, span.size, span) for number, span in enumerate(found)]
        case HubTexts():
            return [TextStream(0, 0)]
        case GeneratedTexts():
            if len(spec.text) != 1:
                raise ValueError(f"text: {len(spec.text)} columns, but the generator makes single texts; name one")
            return [TextStream(0, 0)]
        case _:
            assert_never(spec.source)


def _summed(spec: BankSpec, raw_parts: Sequence[RawPart]) -> dict[str, int]:
    return {name: sum(raw_part.filters[name] for raw_part in raw_parts) for name in filter_names(spec)}


# --- duplicates ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DuplicateSearchJob:
    """What a worker needs to find duplicate rows. ``starts`` has the number of the first row of each raw part."""

    scratch: Path
    raw_parts: tuple[str, ...]
    starts: tuple[int, ...]


def open_duplicate_search(config: DuplicateSearchJob, worker: Worker) -> Callable[[KeyRange], Path]:
    """Return a function that writes the repeated rows of a bucket to a file and returns its path."""

    def find(bucket: KeyRange) -> Path:
        worker.note(f"searches duplicates: kind {bucket.kind}, {bucket.number + 1} of {bucket.of}")
        rows = repeated_rows(config.scratch, config.raw_parts, config.starts, bucket)
        path = config.scratch / f"repeated-{bucket.kind}-{bucket.number}.npy"
        save(path, rows)
        return path

    return find


def _row_states(
    spec: BankSpec, raw_parts: Sequence[RawPart], starts: Sequence[int], scratch: Path, on: On
) -> RowStates:
    """The state of each raw row, [raw rows] in a mapped file: ``KEPT``, ``DUPLICATE`` or ``NEAR_DUPLICATE``. Rows are
    sampled afterwards."""
    if not starts[-1]:
        return np.empty(0, np.uint8)
    (scratch / ROW_STATES).unlink(missing_ok=True)  # a process of an earlier attempt may still write to it
    states = np.memmap(scratch / ROW_STATES, np.uint8, "w+", shape=(starts[-1],))
    items = buckets(starts[-1], spec.near_duplicates)
    config = DuplicateSearchJob(scratch, tuple(raw_part.name for raw_part in raw_parts), tuple(starts[:-1]))
    for item, path in on.map(open_duplicate_search, config, items):
        rows = np.load(path)
        states[rows] = (
            DUPLICATE if items[item].kind == 0 else np.where(states[rows] == DUPLICATE, DUPLICATE, NEAR_DUPLICATE)
        )
        path.unlink()
    states.flush()  # workers on other nodes read the file
    return states


def _count_states(states: RowStates) -> list[int]:
    """How many rows are ``KEPT``, ``DUPLICATE`` and ``NEAR_DUPLICATE``, [3]. Reads a block of states at a time."""
    counts = np.zeros(3, np.int64)
    for start in range(0, len(states), BUCKET_ROWS):
        counts += np.bincount(states[start : start + BUCKET_ROWS], minlength=3)
    found: list[int] = counts.tolist()
    return found


# --- parts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BankWriteJob:
    """What a worker needs to write parts of the bank. ``starts`` has the number of the first row of each raw part, then
    the number of all raw rows."""

    out: Path
    columns: tuple[str, ...]
    starts: tuple[int, ...]
    raw_parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BankPart:
    """Part ``number`` of the bank: the first ``rows`` kept rows from the raw row ``first`` on."""

    number: int
    first: int
    rows: int


def _write_parts(
    spec: BankSpec, raw_parts: Sequence[RawPart], starts: Sequence[int], states: RowStates, out: Path, on: On
) -> list[int]:
    """Write the parts that ``out`` does not hold yet; return the rows of each part."""
    items = list(_parts(states))
    missing = [part for part in items if _rows_of(bank_part(out, part.number)) != part.rows]
    names = tuple(raw_part.name for raw_part in raw_parts)
    config = BankWriteJob(out, COLUMNS[: len(spec.text)], tuple(starts), names)
    for _ in on.map(open_part_writer, config, missing):
        pass
    return [part.rows for part in items]


def _parts(states: RowStates) -> Sequence[BankPart]:
    """The parts of the bank: ``PART_ROWS`` kept rows each, and the remainder in the last. Reads a block of states at a
    time."""
    found: list[BankPart] = []
    first, held = 0, 0
    for start in range(0, len(states), PART_ROWS):
        kept = start + np.flatnonzero(states[start : start + PART_ROWS] == KEPT)
        while held + len(kept) >= PART_ROWS:
            taken = PART_ROWS - held
            found.append(BankPart(len(found), first, PART_ROWS))
            first, held, kept = int(kept[taken - 1]) + 1, 0, kept[taken:]
        held += len(kept)
    if held:
        found.append(BankPart(len(found), first, held))
    return found


def open_part_writer(config: BankWriteJob, worker: Worker) -> Callable[[BankPart], None]:
    """Return a function that writes one part of the bank."""
    states = np.memmap(config.out / SCRATCH / ROW_STATES, np.uint8, "r")

    def write(part: BankPart) -> None:
        worker.note(f"writes part {part.number}")
        tables, left = [], part.rows
        raw_part = int(np.searchsorted(config.starts, part.first, side="right")) - 1
        while left:
            begin, end = max(part.first, config.starts[raw_part]), config.starts[raw_part + 1]
            kept = np.flatnonzero(states[begin:end] == KEPT)[:left] + begin - config.starts[raw_part]
            if len(kept):
                tables.append(read_raw_part(config.out / SCRATCH, config.raw_parts[raw_part]).take(pa.array(kept)))
            left -= len(kept)
            raw_part += 1
        _write(config, part.number, pa.concat_tables(tables).combine_chunks())

    return write


def _write(config: BankWriteJob, number: int, texts: pa.Table) -> None:
    rows = zip(*(texts[name].to_pylist() for name in config.columns), strict=True)
    keys = pa.array([row_key(row) for row in rows], pa.binary(KEY_BYTES))
    with replacing(bank_part(config.out, number)) as draft:
        pq.write_table(texts.add_column(0, "row_key", keys), draft, compression="zstd", use_dictionary=False)


def _rows_of(path: Path) -> int:
    """The rows of a finished part; -1 where there is none."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return -1


def _write_meta(spec: BankSpec, parts: Sequence[int], filters: Mapping[str, int], out: Path) -> None:
    content = {"columns": COLUMNS[: len(spec.text)], "parts": parts, "filters": filters}
    with replacing(out / META) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
