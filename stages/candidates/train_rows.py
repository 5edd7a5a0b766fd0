"""The distinct training rows for which candidates are made, and the loop over parts that stages making them share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cluster.resources import On, Worker
from stages.candidates.table import ROWS_A_PART, finish, finished_part, summary
from stages.corpus.leakage import read_guard
from stages.corpus.reader import read_meta, read_split
from stages.specs.tasks import TRAIN

Texts = tuple[str, ...]
Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class TrainRows:
    """Keys and texts of distinct rows of train, in the order of their first occurrence."""

    keys: Sequence[bytes]
    texts: Sequence[Texts]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def parts(self) -> int:
        """Parts of a candidate table for these rows."""
        return -(-len(self.keys) // ROWS_A_PART)

    def part(self, number: int) -> "TrainRows":
        """The rows of one part, at most ``ROWS_A_PART``."""
        span = slice(number * ROWS_A_PART, (number + 1) * ROWS_A_PART)
        return TrainRows(self.keys[span], self.texts[span])


def distinct_train_rows(corpus: Path) -> TrainRows:
    """The training rows of a corpus; of rows with equal keys the first."""
    split = read_split(corpus, TRAIN)
    distinct: Mapping[bytes, Texts] = dict(zip(reversed(split.keys), reversed(split.texts()), strict=True))
    keys = list(dict.fromkeys(split.keys))
    return TrainRows(keys, [distinct[key] for key in keys])


def make_table(
    corpus: Path,
    out: Path,
    on: On,
    open_worker: Callable[[Config, Worker], Callable[[int], int]],
    config: Config,
    maker: str,
    k: int,
) -> dict[str, object]:
    """Write the parts of a candidate table that ``out`` does not hold yet, on workers, then its ``candidates.json``;
    return the table's summary. ``open_worker`` returns a function that writes the part of a number."""
    read_guard(corpus)  # a missing guard fails here, before any worker starts
    train_rows = distinct_train_rows(corpus)
    sizes = [len(train_rows.part(number)) for number in range(train_rows.parts)]
    missing = [number for number, rows in enumerate(sizes) if not finished_part(out, number, rows)]
    if len(missing) < len(sizes):
        on.log(f"{len(sizes) - len(missing)} of {len(sizes)} parts were there already")
    on.expect(sum(sizes[number] for number in missing), "rows")
    for _ in on.map(open_worker, config, missing):
        pass
    return summary(finish(out, maker, k, read_meta(corpus).task.text, len(sizes)))
