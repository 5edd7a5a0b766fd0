"""The training rows that candidates are made for: each distinct one once, in parts."""

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
    """Distinct rows of train in the order in which they first come: their keys, and their texts."""

    keys: Sequence[bytes]
    texts: Sequence[Texts]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def parts(self) -> int:
        return -(-len(self.keys) // ROWS_A_PART)

    def part(self, number: int) -> "TrainRows":
        span = slice(number * ROWS_A_PART, (number + 1) * ROWS_A_PART)
        return TrainRows(self.keys[span], self.texts[span])


def distinct_train_rows(corpus: Path) -> TrainRows:
    split = read_split(corpus, TRAIN)
    distinct: Mapping[bytes, Texts] = dict(zip(reversed(split.keys), reversed(split.texts()), strict=True))
    keys = list(dict.fromkeys(split.keys))
    return TrainRows(keys, [distinct[key] for key in keys])


def table_of(
    corpus: Path,
    out: Path,
    on: On,
    open_worker: Callable[[Config, Worker], Callable[[int], int]],
    config: Config,
    maker: str,
    k: int,
) -> dict[str, object]:
    """Have every part of a candidate table written that is not there yet; what a record says of the whole."""
    read_guard(corpus)  # fails now rather than in a worker
    train_rows = distinct_train_rows(corpus)
    sizes = [len(train_rows.part(number)) for number in range(train_rows.parts)]
    missing = [number for number, rows in enumerate(sizes) if not finished_part(out, number, rows)]
    if len(missing) < len(sizes):
        on.log(f"{len(sizes) - len(missing)} of {len(sizes)} parts were there already")
    on.expect(sum(sizes[number] for number in missing), "rows")
    for _ in on.map(open_worker, config, missing):
        pass
    return summary(finish(out, maker, k, read_meta(corpus).task.text, len(sizes)))
