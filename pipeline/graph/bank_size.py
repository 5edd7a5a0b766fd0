"""Rows and bytes of a bank that is not built yet, from the files of its texts."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.graph.digests import Digests
from pipeline.graph.nodes import Quantity
from stages.bank.cleaning import clean_rows
from stages.bank.sources import TextSize, blocks, kind_of, spans
from stages.corpus.row_key import KEY_BYTES
from stages.corpus.task_files import count_rows
from stages.specs.bank import BankSpec

SAMPLED_FILES = 4
SAMPLED_ROWS = 1000
"""The first rows of the first files, from which the number of sentences in a text is estimated."""
GENERATED_BYTES = 60
"""Bytes of a sentence of the project's generator, about."""


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
    rows = count_rows(path)
    if rows is not None:
        with path.open("rb") as file:
            metadata = pq.read_metadata(file)
        columns = [
            group.column(number)
            for group in map(metadata.row_group, range(metadata.num_row_groups))
            for number in range(group.num_columns)
        ]
        return TextSize(
            rows, sum(column.total_uncompressed_size for column in columns if column.path_in_schema in spec.text)
        )
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
