"""Tokenises rows and writes them as parts, in a worker. transformers is imported when a worker opens."""

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
from stages.tagging.alignment import align, check_tokenizer, lost_words, split_words

Tokenizer = Any
"""A fast tokenizer of transformers, whose class cannot be named here without importing it."""

ROWS_AT_ONCE = 4096
"""Rows passed to the tokenizer in one call: enough to keep its threads busy, with little memory."""

FACTS = b"stillhouse"
"""The key of a part's facts in its schema metadata."""


@dataclass(frozen=True, slots=True)
class Tokenize:
    """What a worker needs to tokenise. ``text`` has the task's text columns; ``words``: words have labels."""

    tokenizer: Path
    text: tuple[str, ...]
    max_length: int
    scratch: Path
    words: bool = False


@dataclass(frozen=True, slots=True)
class SaveTokenizer:
    """A work item: save the tokenizer to ``directory``."""

    directory: Path


@dataclass(frozen=True, slots=True)
class WritePart:
    """A work item: tokenise the rows in the file ``rows`` (see ``write_rows_file``) and write them to ``path``. Rows
    are passed in a file, since items sent to workers should be small."""

    path: Path
    rows: Path


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """``sha256`` is the result of ``tokenizer_sha256``."""

    pad_token_id: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartFacts:
    """Counts of a part. ``truncated``: rows that were longer than the corpus's max_length. ``lost_words``: words that
    were cut off, or of which the tokenizer makes no piece, where words have labels."""

    rows: int
    tokens: int
    truncated: int
    lost_words: int = 0


Item = SaveTokenizer | WritePart
Facts = TokenizerFacts | PartFacts


def open_tokenizer(config: Tokenize, worker: Worker) -> Callable[[Item], Facts]:
    """Load the tokenizer; return a function that does one work item."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(worker.threads))  # tokenizers reads it when it starts its threads
    tokenizer = load_tokenizer(config.tokenizer)
    if config.words:
        check_tokenizer(tokenizer)

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
    """The fast tokenizer in a model directory. Code in the directory is not run. ValueError where there is none."""
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
    """A hash of the meaning of token ids: the map token -> id, the special ids, and the normaliser.

    Tokenizers with equal hashes can be used with the same model, which equal vocabulary sizes do not guarantee.
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
    """Save the tokenizer without the traces of loading and use: truncation, padding and its origin."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(directory)
    return TokenizerFacts(int(tokenizer.pad_token_id), tokenizer_sha256(tokenizer))


def write_rows_file(rows: pa.Table, scratch: Path) -> Path:
    """Write rows to a new file in ``scratch``, from which a worker reads them; return its path."""
    path = scratch / f"rows-{uuid.uuid4().hex}.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return path


def _write(tokenizer: Tokenizer, config: Tokenize, part: WritePart, worker: Worker) -> PartFacts:
    tables: list[pa.Table] = []
    truncated = lost = 0
    with pa.OSFile(str(part.rows)) as file:
        given = pa.ipc.open_file(file).read_all()
    for start in range(0, given.num_rows, ROWS_AT_ONCE):
        rows = given.slice(start, ROWS_AT_ONCE)
        if config.words:
            table, cut, lost_here = _words_tokenised(tokenizer, config, rows)
            lost += lost_here
        else:
            table, cut = _tokenised(tokenizer, config, rows)
        tables.append(table)
        truncated += cut
        worker.advance(rows.num_rows)
    whole = pa.concat_tables(tables).combine_chunks()
    facts = PartFacts(whole.num_rows, len(whole["input_ids"].combine_chunks().values), truncated, lost)
    _write_part(part.path, whole, facts)
    return facts


def _tokenised(tokenizer: Tokenizer, config: Tokenize, rows: pa.Table) -> tuple[pa.Table, int]:
    """The rows with their tokens, and how many of them were truncated. Truncation shortens the longer text of a
    pair."""
    texts = [rows[name].to_pylist() for name in config.text]
    encoded = tokenizer(*texts, truncation="longest_first", max_length=config.max_length, padding=False)
    ids = encoded["input_ids"]
    full = (row for row, tokens in enumerate(ids) if len(tokens) == config.max_length)
    truncated = sum(bool(encoded.encodings[row].overflowing) for row in full)
    table = rows.append_column("input_ids", pa.array(ids, pa.list_(pa.int32())))
    if len(texts) == 2 and "token_type_ids" in encoded:
        table = table.append_column("token_type_ids", pa.array(encoded["token_type_ids"], pa.list_(pa.int8())))
    return table, truncated


def _words_tokenised(tokenizer: Tokenizer, config: Tokenize, rows: pa.Table) -> tuple[pa.Table, int, int]:
    """The rows with their tokens and the places of their words; how many rows have lost words, and how many words these
    are. A column of lists has words; plain texts, such as candidates, are divided by the tokenizer's own rule."""
    (name,) = config.text
    column = rows[name]
    given = pa.types.is_list(column.type)
    sentences = (
        column.to_pylist() if given else [split_words(tokenizer, text) or (text,) for text in column.to_pylist()]
    )
    found = align(tokenizer, sentences, config.max_length)
    table = rows.append_column("input_ids", pa.array([one.input_ids for one in found], pa.list_(pa.int32())))
    table = table.append_column("first_pieces", pa.array([one.places for one in found], pa.list_(pa.int32())))
    return table, sum(one.lost > 0 for one in found), lost_words(found)


def _write_part(path: Path, table: pa.Table, facts: PartFacts) -> None:
    """Write a part with its facts in the schema metadata."""
    content = {"tokens": facts.tokens, "truncated": facts.truncated}
    content |= {"lost_words": facts.lost_words} if facts.lost_words else {}
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
