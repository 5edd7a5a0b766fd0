"""Which texts of a bank may be candidates of a training row, with counts of those that may not."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.bank.reader import read_bank_rows
from stages.corpus.leakage import Guard, all_normalized

Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BankText:
    """A row of the bank. Rows with equal ``normalized`` texts are taken for the same text. ``guarded``: the task is
    evaluated on one of its texts."""

    texts: Texts
    normalized: Texts
    guarded: bool


@dataclass(frozen=True, slots=True)
class KeptText:
    """A row of the bank that passed the filter, and its distance from the training row."""

    texts: Texts
    distance: float


def read_bank_texts(bank: Path, rows: npt.NDArray[np.int64], guard: Guard) -> dict[int, BankText]:
    """Row -> its text, for the distinct rows of the bank in ``rows``, where -1 stands for no row."""
    distinct = np.unique(rows[rows >= 0])
    found = read_bank_rows(bank, distinct)
    return {
        row: BankText(texts, all_normalized(texts), guard.blocks(texts))
        for row, texts in zip(distinct.tolist(), found, strict=True)
    }


@dataclass
class NeighbourFilter:
    """Keeps at most ``k`` texts for one training row. ``left_out`` counts the others by reason: ``own`` (the row's own
    text), ``guarded`` (the task is evaluated on it), ``out_of_bounds`` (its distance is not ``within``), ``alike``
    (equal to an earlier candidate without case, accents, spacing and punctuation)."""

    k: int
    within: Callable[[float], bool] = lambda _: True
    left_out: Counter[str] = field(default_factory=Counter)

    def apply(self, own: Texts, found: Iterable[tuple[int, float]], bank: Mapping[int, BankText]) -> list[KeptText]:
        """The first ``k`` of ``found``, pairs (row of the bank, distance), that may be candidates of the training row
        with the texts ``own``. What comes after the k-th is not looked at."""
        earlier, kept, own_normalized = set[Texts](), list[KeptText](), all_normalized(own)
        for row, distance in found:
            if len(kept) == self.k:
                break
            text = bank[row]
            reason = self._reason(text, distance, own_normalized, earlier)
            if reason:
                self.left_out[reason] += 1
                continue
            earlier.add(text.normalized)
            kept.append(KeptText(text.texts, distance))
        return kept

    def _reason(self, text: BankText, distance: float, own: Texts, earlier: set[Texts]) -> str:
        """Why the text may not be a candidate; '' if it may."""
        if text.normalized == own:
            return "own"
        if text.guarded:
            return "guarded"
        if not self.within(distance):
            return "out_of_bounds"
        return "alike" if text.normalized in earlier else ""
