"""Reads a corpus. Needs numpy, pyarrow and the task model, no torch and no transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.corpus.row_key import KEY_BYTES, split_keys
from stages.images.pixel_reader import StoredImages, read_pixel_meta, read_stored_images
from stages.images.pixel_rows import PixelRows, pixel_rows
from stages.specs.axes.augmentation import Augmentation
from stages.specs.tasks import TRAIN, Task

Role = Literal["train", "holdout", "dev", "test", "candidates"]

META = "corpus.json"
CANDIDATES = "candidates"
"""The single split of tokenised candidates."""

TOKENIZER = "tokenizer"
PROCESSOR = "processor"
"""The folder with the files by which the rows of a corpus of texts, or of images, were made a model's inputs."""

PROCESSOR_FILE = "preprocessor_config.json"
"""The file in which transformers keeps how images are normalised."""
SCRATCH = "scratch"
"""The folder for temporary files in a work directory. It does not become part of the artifact."""


@dataclass(frozen=True, slots=True)
class SplitMeta:
    """``tokens``: all tokens of the split, special tokens included, padding not."""

    role: Role
    rows: int
    parts: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Meta:
    """The content of ``corpus.json``. ``splits`` are in the order train, holdout, dev, test. An image counts as one
    token; ``augmentation`` says how its views are made."""

    task: Task
    splits: Mapping[str, SplitMeta]
    pad_token_id: int
    max_length: int
    tokenizer_sha256: str
    augmentation: Augmentation | None = None

    def of(self, role: Role) -> tuple[str, ...]:
        """The names of the splits with this role."""
        return tuple(name for name, split in self.splits.items() if split.role == role)


@dataclass(frozen=True, slots=True)
class Split:
    """The N rows of one split. The tokens of row i are ``tokens[offsets[i]:offsets[i + 1]]``.

    ``labelled`` is False where a label is not public, and ``labels`` is 0 there. ``row_keys`` are single bytes, as
    numpy's ``S16`` would drop zeros at the end of a key.

    Where words have labels, row i has the words ``words[i]`` to ``words[i + 1]`` - 1 of the split: ``labels`` [words]
    has the label of each, ``first_pieces`` [words] the place among the row's tokens of its first piece, -1 for a word
    without one. Both are None otherwise.
    """

    row_keys: npt.NDArray[np.uint8]  # (N, 16)
    index: npt.NDArray[np.int64]  # (N,)
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32]  # (N,), or (words[N],)
    labelled: npt.NDArray[np.bool_]  # (N,)
    tokens: npt.NDArray[np.int32]  # (offsets[N],)
    offsets: npt.NDArray[np.int64]  # (N + 1,)
    type_ids: npt.NDArray[np.int8] | None  # (offsets[N],)
    parts: tuple[Path, ...]
    columns: tuple[str, ...]
    words: npt.NDArray[np.int64] | None = None  # (N + 1,)
    first_pieces: npt.NDArray[np.int32] | None = None  # (words[N],)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each row, (N,)."""
        return np.diff(self.offsets)

    @property
    def keys(self) -> list[bytes]:
        """The row keys as ``bytes``, for look-ups and joins."""
        return split_keys(self.row_keys.tobytes())

    def texts(self) -> list[tuple[str, ...]]:
        """The texts of each row, of which words are joined by spaces. They are read from the files at each call and not
        kept in memory."""
        table = _read(self.parts, self.columns)
        return list(zip(*(map(as_text, table[name].to_pylist()) for name in self.columns), strict=True))


def as_text(value: str | list[str]) -> str:
    """A value of a column of text, in which the words of a list are joined by spaces."""
    return value if isinstance(value, str) else " ".join(value)


def read_meta(directory: Path) -> Meta:
    """The meta data of the corpus in ``directory``. ValueError where there is no finished corpus."""
    path = directory / META
    if not path.is_file():
        raise ValueError(f"corpus: {path} is not there; {directory} holds no finished corpus")
    stated = json.loads(path.read_text(encoding="utf-8"))
    splits = {name: SplitMeta(**split) for name, split in stated.pop("splits").items()}
    augmentation = stated.pop("augmentation", None)
    views = None if augmentation is None else Augmentation.model_validate(augmentation)
    return Meta(
        augmentation=views, task=Task.model_validate(stated.pop("task")), splits=MappingProxyType(splits), **stated
    )


def read_split(directory: Path, name: str) -> Split:
    """One split, in memory. ValueError for a split that the corpus does not have, and where a part is broken or lacks
    rows."""
    meta = read_meta(directory)
    if name not in meta.splits:
        raise ValueError(f"split: {name} is not in {directory}; it has {', '.join(meta.splits)}")
    if meta.task.image is not None:
        raise ValueError(f"{directory}: a corpus of images, which have no tokens; give one of texts")
    stated = meta.splits[name]
    parts = tuple(part_path(directory, name, part) for part in range(stated.parts))
    table = _read(parts, ("index", "row_key", "label", "input_ids", "token_type_ids", "first_pieces"))
    if table.num_rows != stated.rows:
        raise ValueError(f"{directory / name}: {table.num_rows} rows; {META} says {stated.rows}; build it again")
    return _split(table, parts, meta.task.text)


@dataclass(frozen=True, slots=True)
class RowTable:
    """The N rows of a split without their inputs: for each its key, its number in the source, its label as in
    ``Split``, and what it costs to compute (``Examples.costs``)."""

    keys: list[bytes]
    index: npt.NDArray[np.int64]  # (N,)
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32]  # (N,)
    labelled: npt.NDArray[np.bool_]  # (N,)
    costs: npt.NDArray[np.int64]  # (N,)
    words: npt.NDArray[np.int64] | None = None  # (N + 1,)


def read_row_table(directory: Path, name: str) -> RowTable:
    """The rows of a split of any corpus, those of train in all of their views. ValueError as ``read_split`` raises."""
    if read_meta(directory).task.image is not None:
        return _image_table(read_image_rows(directory, name))
    split = read_split(directory, name)
    return RowTable(split.keys, split.index, split.labels, split.labelled, split.lengths, split.words)


def reader_folder(directory: Path) -> Path:
    """The folder of a corpus with the files by which a model's inputs are made of rows as those of this corpus were.
    They belong beside the model's weights."""
    return directory / (TOKENIZER if read_meta(directory).task.image is None else PROCESSOR)


@dataclass(frozen=True, slots=True)
class ImageRows:
    """The rows of a split of images, in all of their views, with labels as in ``Split``."""

    stored: StoredImages
    pixels: PixelRows

    @property
    def views(self) -> int:
        """The number of views of each row."""
        return len(self.pixels) // len(self.stored)


def read_image_rows(directory: Path, name: str) -> ImageRows:
    """A split of a corpus of images. ValueError for a split that the corpus does not have, or that is damaged."""
    meta = read_meta(directory)
    augmentation = meta.augmentation if name == TRAIN and meta.augmentation else Augmentation()
    stored = read_stored_images(directory, name)
    return ImageRows(stored, pixel_rows(stored, read_pixel_meta(directory).normalisation, augmentation))


def _image_table(found: ImageRows) -> RowTable:
    stored, views = found.stored, found.views
    keys = found.pixels.keys(np.arange(len(found.pixels), dtype=np.int64))
    labels: npt.NDArray[Any] = np.tile(stored.labels, views)
    index, labelled = np.tile(stored.index, views), np.tile(stored.labelled, views)
    return RowTable(keys, index, labels, labelled, found.pixels.costs)


def part_path(directory: Path, split: str, part: int) -> Path:
    return directory / split / f"part-{part:05d}.parquet"


def _read(parts: tuple[Path, ...], columns: tuple[str, ...]) -> pa.Table:
    """The parts as one table, with those of the columns that they have."""
    tables = []
    for path in parts:
        try:
            with path.open("rb") as file:
                tables.append(pq.ParquetFile(file).read(columns=list(columns)))
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: this part cannot be read ({reason}); build the corpus again") from error
    return pa.concat_tables(tables).combine_chunks()


def _split(table: pa.Table, parts: tuple[Path, ...], text: tuple[str, ...]) -> Split:
    label, ids = _whole(table["label"]), _whole(table["input_ids"])
    labelled = label.is_valid().to_numpy(zero_copy_only=False)
    words, first = None, None
    if "first_pieces" in table.column_names:
        places = _whole(table["first_pieces"])
        words, first = places.offsets.to_numpy().astype(np.int64), places.values.to_numpy()
        labels = np.zeros(len(first), np.int64)
        labels[np.repeat(labelled, np.diff(words))] = label.flatten().to_numpy()
    else:
        labels = np.array(label.fill_null(0))
    return Split(
        row_keys=_key_bytes(_whole(table["row_key"])),
        index=np.array(_whole(table["index"])),
        labels=labels,
        labelled=labelled,
        tokens=ids.values.to_numpy(),
        offsets=ids.offsets.to_numpy().astype(np.int64),
        type_ids=_whole(table["token_type_ids"]).values.to_numpy() if "token_type_ids" in table.column_names else None,
        parts=parts,
        columns=text,
        words=words,
        first_pieces=first,
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0)


def _key_bytes(keys: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint8]:
    start = keys.offset * KEY_BYTES
    data = np.frombuffer(keys.buffers()[1], np.uint8)[start : start + len(keys) * KEY_BYTES]
    return data.reshape(-1, KEY_BYTES)
