"""Rows -> tokens, in parts that are each written whole or not at all. What a worker of the corpus does.

transformers is imported where a worker opens.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import Worker
from stages.atomic import replacing

Tokenizer = Any
"""A fast tokenizer of transformers, whose class cannot be named here without importing it."""

ROWS_AT_ONCE = 4096
"""Rows that go to the tokenizer in one call: enough to keep its threads busy, little to hold."""

FACTS = b"stillhouse"
"""Where a part's own facts stand in its schema metadata."""


@dataclass(frozen=True, slots=True)
class Tokenize:
    """What a worker needs to open. ``scratch`` is on the same file system as the parts."""

    tokenizer: Path
    text: tuple[str, ...]
    max_length: int
    scratch: Path


@dataclass(frozen=True, slots=True)
class SaveTokenizer:
    """Save the tokenizer into this directory."""

    directory: Path


@dataclass(frozen=True, slots=True)
class WritePart:
    """Tokenise the rows in the file ``rows`` (of ``write_rows_file``) into the Parquet file ``path``.

    Rows travel by file: what is sent to a worker should be small.
    """

    path: Path
    rows: Path


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """``sha256`` is that of ``tokenizer_sha256``."""

    pad_token_id: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartFacts:
    """``truncated`` rows were longer than the corpus's max_length."""

    rows: int
    tokens: int
    truncated: int


Item = SaveTokenizer | WritePart
Facts = TokenizerFacts | PartFacts


def open_tokenizer(config: Tokenize, worker: Worker) -> Callable[[Item], Facts]:
    """Load the tokenizer; return what does one item."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(worker.threads))  # read when tokenizers starts its threads
    tokenizer = load_tokenizer(config.tokenizer)

    def do(item: Item) -> Facts:
        match item:
            case SaveTokenizer():
                return _save(tokenizer, item.directory)
            case WritePart():
                return _write(tokenizer, config, item, worker)
            case _:
                assert_never(item)

    return do


def load_tokenizer(directory: Path) -> Tokenizer:
    """The fast tokenizer in a model directory; no code of the model's is run. ValueError where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, use_fast=True, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"tokenizer: {directory} holds none that loads ({reason}); save a fast one there") from error
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer: {directory} holds a slow one; a tokenizer.json is needed")
    if tokenizer.pad_token_id is None:
        raise ValueError(f"tokenizer: {directory} has no pad token; set one in its tokenizer_config.json")
    return tokenizer


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """What tokens mean, and no more: the map token -> id, the special ids, and the normaliser.

    Two tokenizers that agree in it can feed the same model; sizes of vocabularies say nothing of that.
    """
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    identity = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in names},
        "all_special": sorted(tokenizer.all_special_ids),
        "normalizer": json.loads(tokenizer.backend_tokenizer.to_str())["normalizer"],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _save(tokenizer: Tokenizer, directory: Path) -> TokenizerFacts:
    """Without what loading and earlier use left in it: truncation, padding, where it came from."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(directory)
    return TokenizerFacts(int(tokenizer.pad_token_id), tokenizer_sha256(tokenizer))


def write_rows_file(rows: pa.Table, scratch: Path) -> Path:
    """Write rows for a worker to fetch; return the file, under a name of its own."""
    path = scratch / f"rows-{uuid.uuid4().hex}.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return path


def _write(tokenizer: Tokenizer, config: Tokenize, part: WritePart, worker: Worker) -> PartFacts:
    tables: list[pa.Table] = []
    truncated = 0
    with pa.OSFile(str(part.rows)) as file:
        given = pa.ipc.open_file(file).read_all()
    for start in range(0, given.num_rows, ROWS_AT_ONCE):
        rows = given.slice(start, ROWS_AT_ONCE)
        table, cut = _tokenised(tokenizer, config, rows)
        tables.append(table)
        truncated += cut
        worker.advance(rows.num_rows)
    whole = pa.concat_tables(tables).combine_chunks()
    facts = PartFacts(whole.num_rows, len(whole["input_ids"].combine_chunks().values), truncated)
    _write_part(part.path, whole, facts)
    return facts


def _tokenised(tokenizer: Tokenizer, config: Tokenize, rows: pa.Table) -> tuple[pa.Table, int]:
    """The rows with their tokens, and how many of them were truncated. A pair loses tokens of its longer text."""
    texts = [rows[name].to_pylist() for name in config.text]
    encoded = tokenizer(*texts, truncation="longest_first", max_length=config.max_length, padding=False)
    ids = encoded["input_ids"]
    full = (row for row, tokens in enumerate(ids) if len(tokens) == config.max_length)
    truncated = sum(bool(encoded.encodings[row].overflowing) for row in full)
    table = rows.append_column("input_ids", pa.array(ids, pa.list_(pa.int32())))
    if len(texts) == 2 and "token_type_ids" in encoded:
        table = table.append_column("token_type_ids", pa.array(encoded["token_type_ids"], pa.list_(pa.int8())))
    return table, truncated


def _write_part(path: Path, table: pa.Table, facts: PartFacts) -> None:
    """Write a part with its facts in the schema metadata."""
    content = {"tokens": facts.tokens, "truncated": facts.truncated}
    described = table.replace_schema_metadata({FACTS: json.dumps(content).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        pq.write_table(described, draft, compression="zstd", use_dictionary=False)


def finished_part(path: Path, rows: int) -> PartFacts | None:
    """The facts of a part that an earlier attempt wrote; None where it is missing, broken or of other rows."""
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return None
    stated = (metadata.metadata or {}).get(FACTS)
    if stated is None or metadata.num_rows != rows:
        return None
    return PartFacts(rows=rows, **json.loads(stated))
