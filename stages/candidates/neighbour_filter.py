"""Which texts of a bank may be candidates of a training row, and how many of the others were passed over."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.bank.reader import read_bank_rows
from stages.corpus.leakage import Guard, folded

Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A row of the bank. Two that fold alike are the same text to a reader; ``guarded`` is one that is evaluated on."""

    texts: Texts
    folds: Texts
    guarded: bool


@dataclass(frozen=True, slots=True)
class Kept:
    texts: Texts
    distance: float


def read_known(bank: Path, rows: npt.NDArray[np.int64], guard: Guard) -> dict[int, Known]:
    """What is to be known of these rows of the bank; each is read once, and -1 is none."""
    distinct = np.unique(rows[rows >= 0])
    found = read_bank_rows(bank, distinct)
    return {
        row: Known(texts, folds(texts), guard.blocks(texts))
        for row, texts in zip(distinct.tolist(), found, strict=True)
    }


def folds(texts: Texts) -> Texts:
    return tuple(folded(text) for text in texts)


@dataclass
class NeighbourFilter:
    """Lets through at most ``k`` texts of a row, and counts the others by why they are left out."""

    k: int
    within: Callable[[float], bool] = lambda _: True
    left_out: Counter[str] = field(default_factory=Counter)

    def kept(self, own: Texts, found: Iterable[tuple[int, float]], known: Mapping[int, Known]) -> list[Kept]:
        """Of (row of the bank, distance), in order: what is neither the row's ``own`` texts, nor evaluated on, nor
        out of bounds, nor like one before."""
        seen, kept, mine = set[Texts](), list[Kept](), folds(own)
        for row, distance in found:
            if len(kept) == self.k:
                break
            one = known[row]
            reason = self._reason(one, distance, mine, seen)
            if reason:
                self.left_out[reason] += 1
                continue
            seen.add(one.folds)
            kept.append(Kept(one.texts, distance))
        return kept

    def _reason(self, one: Known, distance: float, own: Texts, seen: set[Texts]) -> str:
        if one.folds == own:
            return "own"
        if one.guarded:
            return "guarded"
        if not self.within(distance):
            return "out_of_bounds"
        return "alike" if one.folds in seen else ""
