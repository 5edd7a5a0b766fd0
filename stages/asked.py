"""The training rows that candidates are made for: each distinct one once, in parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.candidate_table import ROWS_A_PART
from stages.corpus_reader import read_split
from stages.tasks import TRAIN

Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Distinct rows of train in the order in which they first come: their keys, and their texts."""

    keys: Sequence[bytes]
    texts: Sequence[Texts]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def parts(self) -> int:
        return -(-len(self.keys) // ROWS_A_PART)

    def part(self, number: int) -> "Asked":
        span = slice(number * ROWS_A_PART, (number + 1) * ROWS_A_PART)
        return Asked(self.keys[span], self.texts[span])


def asked_rows(corpus: Path) -> Asked:
    split = read_split(corpus, TRAIN)
    distinct: Mapping[bytes, Texts] = dict(zip(reversed(split.keys), reversed(split.texts()), strict=True))
    keys = list(dict.fromkeys(split.keys))
    return Asked(keys, [distinct[key] for key in keys])
