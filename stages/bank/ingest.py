"""The first pass of a bank: texts in, pieces of clean ones out, each with the keys by which it is known.

raw-<stream>-<piece>.parquet   the columns of text; what the filters took, in its schema's metadata; written last
keys-..., order-...            of ``stages/bank/dedup.py``
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import Worker
from stages.bank.cleaning import Texts, kept_texts
from stages.bank.dedup import text_keys, write_keys
from stages.bank.reader import COLUMNS
from stages.bank.sources import BLOCK_ROWS, Row, Span, TextBlock, blocks, check_columns
from stages.specs.bank import BankSpec, GeneratedTexts, HubTexts
from stages.specs.corpus import Files
from stages.specs.seeds import seed_of

FACTS = b"stillhouse"


@dataclass(frozen=True, slots=True)
class Raw:
    """What a worker needs to open."""

    spec: BankSpec
    scratch: Path


@dataclass(frozen=True, slots=True)
class Stream:
    """What one worker reads from its beginning to its end, of ``size`` bytes: a span of a file, or the whole source."""

    number: int
    size: int
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """``rows`` texts that passed, of those that the ``filters`` saw."""

    name: str
    rows: int
    filters: dict[str, int]


def open_raw(config: Raw, worker: Worker) -> Callable[[Stream], list[Piece]]:
    """What reads one stream."""

    def read(stream: Stream) -> list[Piece]:
        found, done, seen = [], 0.0, 0
        for number, block in enumerate(blocks_of(config.spec, stream)):
            name = f"{stream.number:05d}-{number:05d}"
            piece = finished_piece(config.scratch, name) or _write(config, name, block)
            found.append(piece)
            seen += len(block.rows)
            worker.advance((block.done - done) / 1e6)
            worker.note(f"read {seen:,} rows of {_origin(config.spec, stream)}")
            done = block.done
        return found

    return read


def raw_path(scratch: Path, name: str) -> Path:
    return scratch / f"raw-{name}.parquet"


def read_raw(scratch: Path, name: str) -> pa.Table:
    with raw_path(scratch, name).open("rb") as file:
        return pq.ParquetFile(file).read().replace_schema_metadata(None)


def finished_piece(scratch: Path, name: str) -> Piece | None:
    """The piece that an earlier attempt wrote; None where there is none, or a broken one."""
    try:
        metadata = pq.read_metadata(raw_path(scratch, name))
    except (pa.ArrowException, OSError):
        return None
    return Piece(name, metadata.num_rows, json.loads(metadata.metadata[FACTS]))


def _write(config: Raw, name: str, block: TextBlock) -> Piece:
    texts, filters = kept_texts(block.rows, config.spec)
    write_keys(config.scratch, name, text_keys(texts, config.spec.near_duplicates))
    path = raw_path(config.scratch, name)
    draft = path.with_name(path.name + ".tmp")
    pq.write_table(_table(texts, config.spec, filters), draft, compression="zstd", use_dictionary=False)
    os.replace(draft, path)
    return Piece(name, len(texts), filters)


def _table(texts: list[Texts], spec: BankSpec, filters: dict[str, int]) -> pa.Table:
    names = COLUMNS[: len(spec.text)]
    columns = {name: pa.array([row[place] for row in texts], pa.string()) for place, name in enumerate(names)}
    return pa.table(columns).replace_schema_metadata({FACTS: json.dumps(filters).encode()})


# --- where the rows come from -------------------------------------------------------------------------


def blocks_of(spec: BankSpec, stream: Stream) -> Iterator[TextBlock]:
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
    """As they come over the net, none of them kept. No code of the data set's is run."""
    import datasets

    rows = datasets.load_dataset(
        source.repository, source.config, split=source.split, revision=source.revision, streaming=True
    )
    for number, row in enumerate(rows):
        if number == 0:
            check_columns(f"{source.repository} {source.split}", list(row), columns)
        yield tuple(row[name] for name in columns)


def _generated_rows(source: GeneratedTexts) -> Iterator[Row]:
    """As those of a test split, which have all the generator's words; under a seed derived from the source's, or a task
    of the same seed would have the same sentences."""
    from stages.corpus.demo.reviews import generate

    seed = seed_of(source.seed, int.from_bytes(b"bank"))
    for row in generate(seed=seed, train=0, validation=0, test=source.rows)["test"]:
        yield (row["sentence"],)


def _origin(spec: BankSpec, stream: Stream) -> str:
    if stream.span is not None:
        return stream.span.path.name
    return spec.source.repository if isinstance(spec.source, HubTexts) else "the generator"
