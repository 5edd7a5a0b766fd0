"""The first pass of a bank: reads texts, cleans them and writes them as raw parts, with a key for each row.

raw-<stream>-<number>.parquet   the text columns; the filters' counts are in the schema metadata; written last
keys-..., order-...             the keys of its rows, see ``stages/bank/dedup.py``
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import Worker
from stages.atomic import replacing
from stages.bank.cleaning import Texts, clean_rows
from stages.bank.dedup import has_keys, text_keys, write_keys
from stages.bank.reader import COLUMNS
from stages.bank.sources import BLOCK_ROWS, Span, TextBlock, blocks, check_columns
from stages.files.rows import Row
from stages.specs.bank import BankSpec, GeneratedTexts, HubTexts
from stages.specs.corpus import Files
from stages.specs.seeds import seed_of

FACTS = b"stillhouse"


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What a worker needs to ingest streams. Raw parts are written to ``scratch``."""

    spec: BankSpec
    scratch: Path


@dataclass(frozen=True, slots=True)
class TextStream:
    """What one worker reads from beginning to end, ``size`` bytes: a span of a file or, without one, the whole
    source."""

    number: int
    size: int
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class RawPart:
    """A file of cleaned texts, not deduplicated yet: its ``rows``, and the counts of ``clean_rows``."""

    name: str
    rows: int
    filters: dict[str, int]


def open_ingest(config: IngestJob, worker: Worker) -> Callable[[TextStream], list[RawPart]]:
    """Return a function that reads one stream and writes its raw parts, but for those that are finished."""

    def read(stream: TextStream) -> list[RawPart]:
        found, done, rows = [], 0.0, 0
        for number, block in enumerate(blocks_of(config.spec, stream)):
            name = f"{stream.number:05d}-{number:05d}"
            raw_part = finished_raw_part(config.scratch, name) or _write(config, name, block)
            found.append(raw_part)
            rows += len(block.rows)
            worker.advance((block.done - done) / 1e6)
            worker.note(f"read {rows:,} rows of {_origin(config.spec, stream)}")
            done = block.done
        return found

    return read


def raw_path(scratch: Path, name: str) -> Path:
    return scratch / f"raw-{name}.parquet"


def read_raw_part(scratch: Path, name: str) -> pa.Table:
    with raw_path(scratch, name).open("rb") as file:
        return pq.ParquetFile(file).read().replace_schema_metadata(None)


def finished_raw_part(scratch: Path, name: str) -> RawPart | None:
    """The raw part that an earlier attempt wrote; None where there is none, where it is broken, or without its keys."""
    if not has_keys(scratch, name):
        return None
    try:
        metadata = pq.read_metadata(raw_path(scratch, name))
    except (pa.ArrowException, OSError):
        return None
    return RawPart(name, metadata.num_rows, json.loads(metadata.metadata[FACTS]))


def _write(config: IngestJob, name: str, block: TextBlock) -> RawPart:
    texts, filters = clean_rows(block.rows, config.spec)
    write_keys(config.scratch, name, text_keys(texts, config.spec.near_duplicates))
    with replacing(raw_path(config.scratch, name)) as draft:
        pq.write_table(_table(texts, config.spec, filters), draft, compression="zstd", use_dictionary=False)
    return RawPart(name, len(texts), filters)


def _table(texts: list[Texts], spec: BankSpec, filters: dict[str, int]) -> pa.Table:
    names = COLUMNS[: len(spec.text)]
    columns = {name: pa.array([row[place] for row in texts], pa.string()) for place, name in enumerate(names)}
    return pa.table(columns).replace_schema_metadata({FACTS: json.dumps(filters).encode()})


# --- where the rows come from -------------------------------------------------------------------------


def blocks_of(spec: BankSpec, stream: TextStream) -> Iterator[TextBlock]:
    """The rows of a stream, in blocks."""
    match spec.source:
        case Files():
            assert stream.span is not None, "a stream of files has its span"
            yield from blocks(stream.span, spec.text)
        case HubTexts():
            yield from _blocks(_hub_rows(spec.source, spec.text))
        case GeneratedTexts():
            yield from _blocks(_generated_rows(spec.source))
        case _:
            assert_never(spec.source)


def _blocks(rows: Iterator[Row]) -> Iterator[TextBlock]:
    while block := list(islice(rows, BLOCK_ROWS)):
        yield TextBlock(block, 0.0)


def _hub_rows(source: HubTexts, columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows streamed from the hub without storing them. Code in the data set's repository is not run."""
    import datasets

    rows = datasets.load_dataset(
        source.repository, source.config, split=source.split, revision=source.revision, streaming=True
    )
    for number, row in enumerate(rows):
        if number == 0:
            check_columns(f"{source.repository} {source.split}", list(row), columns)
        yield tuple(row[name] for name in columns)


def _generated_rows(source: GeneratedTexts) -> Iterator[Row]:
    """Rows of a generated test split, since these use all words of the generator. Its seed is derived from the
    source's, so that a generated task with the same seed has other sentences."""
    from stages.corpus.demo.reviews import generate

    seed = seed_of(source.seed, int.from_bytes(b"bank"))
    for row in generate(seed=seed, train=0, validation=0, test=source.rows)["test"]:
        yield (row["sentence"],)


def _origin(spec: BankSpec, stream: TextStream) -> str:
    if stream.span is not None:
        return stream.span.path.name
    return spec.source.repository if isinstance(spec.source, HubTexts) else "the generator"
