"""Random texts of a bank among the neighbours of a row: the share ``random`` of ``NeighboursSpec``.

Neighbours alone lie near the rows of train. Random texts cover the rest of the bank; for pairs they are the clear cases
beside the close ones, as a pair with a random text is hardly ever one of similar texts (Thakur et al. 2021, "Augmented
SBERT", NAACL, compares ways to choose pairs for a teacher to label).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.bank.reader import read_bank_meta
from stages.candidates.neighbour_filter import BankText, Texts, read_bank_texts
from stages.candidates.table import Candidate
from stages.candidates.train_rows import TrainRows
from stages.candidates.transfer import DRAWS_AT_ONCE, MOST_DRAWS, drawn
from stages.corpus.leakage import Guard, all_normalized
from stages.specs.candidates import NeighboursSpec

EXTRA_DRAWS = 8
"""At first a row draws this many more than four times its candidates, as some will be filtered out."""

WHOLE = (-1,)
"""Stands for all texts of a row among the sides that a candidate replaces."""


def random_ranks(k: int, share: float) -> frozenset[int]:
    """The ranks below ``k`` that random texts have. Of the first n ranks they are floor(n * share), whatever n is, so
    that a method which uses fewer candidates has the same share of them."""
    # Rounded, as a share such as 0.29 times 100 is a little less than 29.
    counts = [int(round(n * share, 9)) for n in range(k + 1)]
    return frozenset(rank for rank in range(k) if counts[rank + 1] > counts[rank])


@dataclass(frozen=True, slots=True)
class RandomTexts:
    """Draws candidates from a bank for the rows of a task. A draw depends on (seed, row key, number of the draw)
    alone."""

    spec: NeighboursSpec
    bank: Path
    guard: Guard

    def mixed_into(self, rows: TrainRows, neighbours: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
        """At most ``k`` candidates of each row: the nearest of its ``neighbours``, with random texts at the ranks of
        ``random_ranks``. Where there are too few random texts, further neighbours stand there. A row with too few
        neighbours gets no more random texts than its share, and has fewer candidates."""
        k, ranks = self.spec.k, random_ranks(self.spec.k, self.spec.random)
        nearest = [found[: k - len(ranks)] for found in neighbours]
        mixed = []
        for found, near, random in zip(neighbours, nearest, self._random(rows, nearest, len(ranks)), strict=True):
            taken = {all_normalized(one.texts) for one in random}
            further = [one for one in found[len(near) :] if all_normalized(one.texts) not in taken]
            mixed.append(interleaved([*near, *further], random, ranks, k))
        return mixed

    def _random(self, rows: TrainRows, nearest: Sequence[Sequence[Candidate]], count: int) -> list[list[Candidate]]:
        """At most ``count`` random candidates of each row, none of them equal to one of its ``nearest``. A row that has
        fewer draws again, twice as often, up to ``MOST_DRAWS`` draws or until it has drawn the whole bank."""
        bank_rows = read_bank_meta(self.bank).rows
        found: list[list[Candidate]] = [[] for _ in rows.keys]
        open_places, draws = list(range(len(rows))) if count else [], 4 * count + EXTRA_DRAWS
        while open_places:
            too_few = []
            for start in range(0, len(open_places), step := max(1, DRAWS_AT_ONCE // draws)):
                places = open_places[start : start + step]
                draws_of = [drawn(self.spec.seed, rows.keys[place], range(draws), bank_rows) for place in places]
                bank_texts = read_bank_texts(self.bank, np.array(draws_of, np.int64), self.guard)
                for place, numbers in zip(places, draws_of, strict=True):
                    distinct = dict.fromkeys(numbers)
                    usable = [bank_texts[row] for row in distinct if not bank_texts[row].guarded]
                    found[place] = self._candidates(rows.texts[place], nearest[place], usable, count)
                    if len(found[place]) < count and len(distinct) < bank_rows and draws < MOST_DRAWS:
                        too_few.append(place)
            open_places, draws = too_few, min(MOST_DRAWS, 2 * draws)
        return found

    def _candidates(
        self, own: Texts, near: Sequence[Candidate], usable: Sequence[BankText], count: int
    ) -> list[Candidate]:
        """At most ``count`` candidates of the row with the texts ``own``, made of ``usable`` texts in their order. None
        is equal to the row or to one of ``near`` without case, accents, spacing and punctuation."""
        taken = {all_normalized(own), *(all_normalized(one.texts) for one in near)}
        found: list[Candidate] = []
        left = iter(usable)
        for sides in self._sides(own):
            if len(found) == count:
                break
            texts = _replaced(own, sides, left)
            if texts is None:
                break
            if all_normalized(texts) not in taken:
                taken.add(all_normalized(texts))
                found.append(Candidate(texts))
        return found

    def _sides(self, own: Texts) -> Iterator[tuple[int, ...]]:
        """The sides of the row that one candidate after another replaces. A text that the task is evaluated on is never
        one that stays, as for neighbours."""
        if len(own) == 1 or self.spec.sides == "joined":
            cycle: list[tuple[int, ...]] = [WHOLE]
        elif self.spec.sides == "both":
            cycle = [(0, 1)]
        else:
            sides = {"first": (0,), "second": (1,)}.get(self.spec.sides, (0, 1))
            cycle = [(side,) for side in sides if not self.guard.blocks((own[1 - side],))]
        while cycle:
            yield from cycle


def _replaced(own: Texts, sides: tuple[int, ...], left: Iterator[BankText]) -> Texts | None:
    """``own`` with the texts at ``sides`` replaced by the next ones of ``left``; None where there are too few."""
    drawn_texts = [text.texts for text in (next(left, None) for _ in sides) if text is not None]
    if len(drawn_texts) < len(sides):
        return None
    if sides == WHOLE:
        return drawn_texts[0]
    found = list(own)
    for side, texts in zip(sides, drawn_texts, strict=True):
        found[side] = texts[0]
    return tuple(found)


def interleaved(
    near: Sequence[Candidate], random: Sequence[Candidate], ranks: frozenset[int], k: int
) -> list[Candidate]:
    """At most ``k`` candidates: those of ``random`` at ``ranks`` and those of ``near`` elsewhere, each in its order.
    Where one has no more, the other fills up."""
    nearest, drawn_texts = list(near), list(random)
    found: list[Candidate] = []
    for rank in range(k):
        first, second = (drawn_texts, nearest) if rank in ranks else (nearest, drawn_texts)
        if first or second:
            found.append((first or second).pop(0))
    return found
