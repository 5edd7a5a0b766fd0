"""Images in a column of a Parquet file: encoded bytes, or a struct of bytes and path as the library ``datasets`` writes
it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.files.kinds import check_regular, not_parquet
from stages.images.rows import ImageRow, ImageSource

BATCH_ROWS = 1024
BYTES = "bytes"
PATH = "path"
"""The fields of a struct that holds an image, or the name of its file."""


def parquet_images(path: Path, image: str = "image", label: str = "label") -> ImageSource:
    """The rows of a Parquet file whose column ``image`` has encoded images. Without a column ``label``, the label of
    each row is None. ValueError, at once, where the file cannot be read or has no such images."""
    check_regular(path)
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(not_parquet(path, error)) from error
    for name in (image, label):
        if schema.names.count(name) > 1:
            raise ValueError(f"{path}: {schema.names.count(name)} columns are called {name}; a name must be there once")
    if image not in schema.names:
        raise ValueError(f"{path}: no column {image}; it has {', '.join(schema.names)}")
    if not _holds_bytes(schema.field(image).type):
        raise ValueError(
            f"{path}: column {image}: of type {schema.field(image).type}; it must hold encoded images as binary, or as "
            f"struct<{BYTES}: binary, {PATH}: string>"
        )
    columns = [name for name in (image, label) if name in schema.names]
    return ImageSource(str(path), lambda: _rows(path, image, label, columns))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return BYTES in fields and _holds_bytes(fields[BYTES])
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _rows(path: Path, image: str, label: str, columns: list[str]) -> Iterator[ImageRow]:
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                images = batch.column(image).to_pylist()
                labels = batch.column(label).to_pylist() if label in columns else [None] * batch.num_rows
                for value, named in zip(images, labels, strict=True):
                    number += 1
                    yield _row(number, image, value, named)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(not_parquet(path, error)) from error


def _row(number: int, column: str, value: object, label: object) -> ImageRow:
    given = value.get(BYTES) if isinstance(value, dict) else value
    place = f"row {number}, column {column}"
    if isinstance(given, bytes):
        return ImageRow(number, place, given, label)
    named = value.get(PATH) if isinstance(value, dict) else None
    if named:
        problem = f"no bytes, only the path {str(named)!r:.80}; write the images themselves into the file"
    else:
        problem = "null; every row needs an image"
    return ImageRow(number, place, b"", label, problem)
