"""Sizes of artifacts that are not built yet: rows and bytes of a bank and bytes of a corpus, from the files of their
texts; bytes of a teacher-output store, also with other settings of precision, pooling and layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.graph.external.digests import Digests
from pipeline.graph.nodes import Quantity
from pipeline.recipe import TaskRecipe
from stages.bank.cleaning import clean_rows
from stages.bank.sources import blocks, spans
from stages.corpus.row_key import KEY_BYTES
from stages.files.kinds import kind_of, parquet_rows
from stages.files.text_size import TextSize
from stages.outputs.sizes import Extent, rows_a_shard
from stages.specs.bank import BankSpec
from stages.specs.teacher import ATTENTION_PARTS, TeachSpec

SAMPLED_FILES = 4
SAMPLED_ROWS = 1000
"""The first rows of the first files, from which the number of sentences in a text is estimated."""
GENERATED_BYTES = 60
"""Bytes of a sentence of the project's generator, about."""
TEXT_BYTES = 100
"""Bytes of a row's texts where its source does not tell them."""
BYTES_A_TOKEN = 4
"""Bytes of text for each token, in English."""
ROW_BYTES = 16 + 4
"""The key of a row, and its number and label, compressed."""
TOKENIZER_BYTES = 700_000
"""The files of a tokenizer beside the rows."""


# --- banks ----------------------------------------------------------------------------------------


def bank_size(files: Sequence[Path], spec: BankSpec, digests: Digests) -> tuple[Quantity, Quantity]:
    """(rows, bytes) of the bank of these files. A row takes a line at least, so lines bound the rows; where texts are
    split into sentences, their number is estimated from a sample. Raises ValueError for a damaged file."""
    sizes = [_file_size(path, spec, digests) for path in files]
    rows = sum(size.lines for size in sizes)
    quantity = Quantity.at_most(rows)
    if spec.sentences is not None:
        rows = round(rows * _sentences_a_row(files, spec))
        quantity = Quantity.about(rows)
    return quantity, Quantity.about(sum(size.bytes for size in sizes) + rows * KEY_BYTES)


def _file_size(path: Path, spec: BankSpec, digests: Digests) -> TextSize:
    """Rows of a file, at most, and bytes of its text columns, about."""
    kind, _ = kind_of(path)
    if kind == "parquet":
        return TextSize(parquet_rows(path), text_bytes(path, spec.text, digests))
    size = digests.text_size(path)
    return TextSize(max(0, size.lines - (kind in ("csv", "tsv"))), size.bytes)


def _sentences_a_row(files: Sequence[Path], spec: BankSpec) -> float:
    """Rows of the bank for each row of its files, in a sample."""
    read = kept = 0
    for path in files[:SAMPLED_FILES]:
        block = next(blocks(spans(path, spec.text)[0], spec.text, SAMPLED_ROWS), None)
        if block is not None:
            read += len(block.rows)
            kept += len(clean_rows(block.rows, spec)[0])
    return kept / max(1, read)


# --- corpora --------------------------------------------------------------------------------------


def corpus_bytes(files: Iterable[Path], rows: int, recipe: TaskRecipe, digests: Digests) -> int:
    """Bytes of a corpus of so many rows: their texts, half of them after compression, and two bytes a token."""
    sizes = [text_bytes(path, recipe.task.text, digests) for path in files]
    texts = sum(sizes) if sizes else rows * TEXT_BYTES * len(recipe.task.text)
    tokens = min(texts // BYTES_A_TOKEN, rows * recipe.max_length)
    return texts // 2 + 2 * tokens + rows * ROW_BYTES + TOKENIZER_BYTES


def tokenised_bytes(rows: int, max_length: int, bank_bytes: int | None, bank_rows: int | None) -> int:
    """Bytes of ``rows`` tokenised texts of a bank of this size (None where it is not known), about."""
    each = max(1, bank_bytes // bank_rows - KEY_BYTES) if bank_bytes and bank_rows else TEXT_BYTES
    return rows * (each // 2 + 2 * min(each // BYTES_A_TOKEN, max_length) + ROW_BYTES) + TOKENIZER_BYTES


def text_bytes(path: Path, columns: Iterable[str], digests: Digests) -> int:
    """Bytes of the texts in a file: of the columns of a Parquet file, of all of any other file."""
    if path.suffix.lower() != ".parquet":
        return digests.text_size(path).bytes
    with path.open("rb") as file:
        try:
            metadata = pq.read_metadata(file)
        except (pa.ArrowException, OSError):  # the file is refused where its rows are counted
            return 0
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    wanted = {*columns, *(f"{column}.list.element" for column in columns)}
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)


# --- teacher-output stores ------------------------------------------------------------------------


SCALE_BYTES = 8

TIERS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "store.precision: float32": {"precision": "float32"},
        "store.precision: float16": {"precision": "float16"},
        "store.precision: int8": {"precision": "int8"},
        "store.pooling: mean": {"pooling": "mean"},
        "store.pooling: cls": {"pooling": "cls"},
        "store.layers: []": {"layers": ()},
    }
)
"""A setting in a recipe -> the fields that it changes in the specs of stores. Without layers, only logits are kept."""


def outputs_of_row(recipe: TaskRecipe) -> int:
    """The numbers that a model gives for a row of the task: a bound where each of its entries has outputs, of which a
    row has at most as many as tokens."""
    return recipe.task.outputs * (recipe.max_length if recipe.task.kind.has_entries else 1)


def store_bytes(spec: TeachSpec, extent: Extent, rows: int) -> int:
    """Bytes of a store before compression: its rows, and for int8 a scale and an offset for each dimension of each
    shard."""
    each = extent.row_bytes(spec.part, spec.precision, spec.pooling)
    if spec.precision != "int8":
        return rows * each
    columns = extent.layers * (2 if spec.part == "pooled" and spec.pooling == "both" else 1)
    shards = -(-rows // rows_a_shard(each))
    return rows * each + shards * columns * extent.width * SCALE_BYTES


def in_tier(spec: TeachSpec, extent: Extent, tier: str) -> tuple[TeachSpec, Extent]:
    """The spec and extent of a store with a setting of ``TIERS``; unchanged if that does not apply to such a store."""
    change = TIERS[tier]
    if (spec.part != "pooled" and "precision" not in change) or (spec.part in ATTENTION_PARTS and "int8" in tier):
        return spec, extent
    changed = spec.model_copy(update=dict(change))
    return changed, extent if changed.layers else replace(extent, layers=0)
