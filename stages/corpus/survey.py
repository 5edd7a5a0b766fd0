"""Reads the data of a task to the end before any work starts: counts the rows of each split, and finds mistakes.

What cannot be right is refused: rows that cannot be read, a single class, a split without rows, an evaluation split
with the rows of train. What is probably unintended is reported: evaluation texts that stand in train, empty texts, one
text under two labels. Memory is bounded: two hashes of its texts and the label are kept of each row, 20 bytes.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from stages.corpus.labels import all_hidden
from stages.corpus.leakage import all_normalized
from stages.corpus.sources import RowLabel, SplitSource, checked_rows, split_role
from stages.specs.tasks import CUT_DEV, Task

SURVEY = 1
"""Version of what a survey looks at, to be raised when the same data are to be looked at again."""

Hashes = npt.NDArray[np.uint64]


class SplitSurvey(BaseModel):
    """What was found in one split: its rows, those with a public label by label (empty for a regression), distinct
    texts, and rows in which a text is empty."""

    model_config = ConfigDict(frozen=True)

    rows: int
    labels: Mapping[str, int]
    texts: int
    empty: int


class TaskSurvey(BaseModel):
    """The splits of a task's data by name, and what is probably unintended in them, in words. ``shape`` is that of
    an image, [C, H, W]; None for texts."""

    model_config = ConfigDict(frozen=True)

    splits: Mapping[str, SplitSurvey]
    warnings: tuple[str, ...]
    shape: tuple[int, int, int] | None = None

    @property
    def rows(self) -> Mapping[str, int]:
        """Split -> its rows in the data, before sampling."""
        return {name: split.rows for name, split in self.splits.items()}


def survey_task(task: Task, sources: Mapping[str, SplitSource]) -> TaskSurvey:
    """Read all splits of a task. ValueError, in one line, for data that cannot be right."""
    read = {split: _read(source, task, split) for split, source in sources.items()}
    train = read[task.train]
    _check_train(train, task)
    for split, found in read.items():
        if split != task.train and np.array_equal(np.sort(found.texts), np.sort(train.texts)):
            raise ValueError(
                f"{found.origin}: the {found.summary.rows:,} rows of {split} are those of {task.train}; "
                "scores on texts that were trained on say nothing: give other rows"
            )
    return TaskSurvey(
        splits={split: found.summary for split, found in read.items()}, warnings=tuple(_warnings(read, task))
    )


@dataclass(frozen=True)
class _SplitRead:
    """A split that has been read: a hash of each row's texts and its label, NaN where it is not public. ``normalized``
    are the hashes of the texts without case and punctuation."""

    origin: str
    summary: SplitSurvey
    texts: Hashes
    normalized: Hashes
    labels: npt.NDArray[np.float32]


@dataclass
class _Columns:
    """What is kept of the rows of a split while it is read."""

    texts: "array[int]" = field(default_factory=lambda: array("Q"))
    normalized: "array[int]" = field(default_factory=lambda: array("Q"))
    labels: "array[float]" = field(default_factory=lambda: array("f"))
    empty: int = 0


def _read(source: SplitSource, task: Task, split: str) -> _SplitRead:
    kept, counts, hidden = _Columns(), Counter[int | float | None](), task.regression
    for block in checked_rows(source, task, split_role(task, split)):
        for texts in block.texts:
            kept.texts.append(_hashed(texts))
            kept.normalized.append(_hashed(all_normalized(texts)))
            kept.empty += not all(map(str.strip, texts))
        kept.labels.extend(map(_as_number, block.labels))
        hidden = hidden and all_hidden(block.labels, task)
        if task.labels is not None:
            counts.update(
                label for given in block.labels for label in (given if isinstance(given, tuple) else (given,))
            )
    labels = np.frombuffer(kept.labels, np.float32)
    if hidden and split_role(task, split) != "test":
        raise ValueError(f"{source.origin}: column {task.label}: every row has the label -1, which means not public")
    hashes = np.frombuffer(kept.texts, np.uint64)
    summary = SplitSurvey(
        rows=len(hashes),
        labels={name: counts[number] for number, name in enumerate(task.labels or ())},
        texts=len(np.unique(hashes)),
        empty=kept.empty,
    )
    normalized = np.frombuffer(kept.normalized, np.uint64)
    return _SplitRead(source.origin, summary, hashes, normalized, np.full_like(labels, np.nan) if hidden else labels)


def _as_number(label: RowLabel) -> float:
    """A label as a number, NaN where it is not public. Labels of words become one that differs for most others."""
    if isinstance(label, tuple):
        return float(crc32(bytes(str(label), "ascii")) >> 8)  # 24 bits, which float32 holds
    return float("nan") if label is None else label


def _hashed(texts: tuple[str, ...]) -> int:
    return int.from_bytes(blake2b("\x1f".join(texts).encode("utf-8"), digest_size=8).digest(), "little")


def _check_train(train: _SplitRead, task: Task) -> None:
    if task.labels is not None:
        there = [name for name, count in train.summary.labels.items() if count]
        if len(there) == 1:
            raise ValueError(
                f"{train.origin}: all {train.summary.rows:,} rows have the label {there[0]}; "
                f"{task.train} needs rows of at least 2 labels"
            )
    elif train.summary.rows > 1 and len(np.unique(train.labels)) == 1:
        raise ValueError(
            f"{train.origin}: all {train.summary.rows:,} rows have the score {train.labels[0]:g}; "
            f"{task.train} needs rows of different scores"
        )


def _warnings(read: Mapping[str, _SplitRead], task: Task) -> Iterator[str]:
    """What is probably unintended, with counts: for each split, then for pairs of splits."""
    train = read[task.train]
    for split, found in read.items():
        summary = found.summary
        of_all = f"of {summary.rows:,} rows of {split}"
        never = [name for name, count in summary.labels.items() if not count]
        if never and len(never) < len(summary.labels):
            yield f"no row of {split} has the label {' or '.join(never)}"
        if summary.empty:
            yield f"{summary.empty:,} {of_all} have an empty text"
        if split == task.train and (conflicting := _conflicting(found)):
            yield f"{conflicting:,} {of_all} have a text that other rows have under another label"
        if split != task.train and (shared := int(np.isin(found.normalized, train.normalized).sum())):
            yield f"{shared:,} {of_all} have a text of {task.train} (but for case and punctuation)"
    evaluated = [split for split in read if split != task.train]
    for place, split in enumerate(evaluated):
        for other in evaluated[:place]:
            if np.array_equal(np.sort(read[split].texts), np.sort(read[other].texts)):
                yield f"{split} has the rows of {other}"


def _conflicting(train: _SplitRead) -> int:
    """The rows of train whose texts have another label in another row."""
    order = np.lexsort((train.labels, train.texts))
    texts, labels = train.texts[order], train.labels[order]
    starts = np.flatnonzero(np.r_[True, texts[1:] != texts[:-1]])
    counts = np.diff(np.r_[starts, len(texts)])
    differ = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    return int(counts[differ].sum())


def needed_texts(task: Task, holdout: float) -> int:
    """The fewest distinct texts that train must have: one to train on, one for each split that is cut from it."""
    return 1 + (not task.dev) + (holdout > 0)


def check_size(found: TaskSurvey, task: Task, holdout: float, train_rows: int | None) -> None:
    """ValueError if train has too few texts to be divided as the recipe wants it."""
    train = found.splits[task.train]
    texts = min(train.texts, train_rows) if train_rows is not None else train.texts
    needed = needed_texts(task, holdout)
    if texts < needed:
        parts = ["one to train on"]
        parts += ["one to hold out (data.holdout)"] if holdout > 0 else []
        parts += [f"one for the split {CUT_DEV}, for which no rows are given"] if not task.dev else []
        raise ValueError(f"{task.train}: {texts} distinct text(s); at least {needed} are needed: {', '.join(parts)}")
