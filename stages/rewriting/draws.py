"""Rewritten texts of some rows, whatever rewrites: drawn again and again until a row has enough, within bounds.

What a draw comes to follows from (seed, row key, draw, side) alone. Needs no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stages.candidates.table import Candidate
from stages.corpus.leakage import Guard, all_normalized
from stages.specs.seeds import seed_of

Sides = Literal["first", "second", "either", "both"]

TRIES = 4
"""Draws of a row for each text that is wanted of it. What comes out may be a text that is there already."""


class Rewriter(Protocol):
    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> Sequence[str]:
        """Each text rewritten, its randomness from its own seed. It may come out as it was."""
        ...


@dataclass(frozen=True, slots=True)
class RewriteRow:
    """A training row."""

    key: bytes
    texts: tuple[str, ...]


@dataclass(slots=True)
class RewriteState:
    """What a row has so far, and what its texts may no more be. The texts at ``guarded`` may not be kept."""

    row: RewriteRow
    guarded: set[int]
    candidates: list[Candidate] = field(default_factory=list)
    taken: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(slots=True)
class RewriteCounts:
    """Texts that were drawn, and those of them that were left out: evaluated on, or there already."""

    drawn: int = 0
    guarded: int = 0
    repeated: int = 0


def rewritten(
    rows: Sequence[RewriteRow], k: int, sides: Sides, seed: int, guard: Guard, rewrite: Rewriter, tally: RewriteCounts
) -> Iterator[list[RewriteState]]:
    """At most ``k`` candidates a row. Yields after each draw what there is of all rows, the last time all."""
    found = [_begun(row, guard) for row in rows]
    for draw in range(TRIES * k):
        short = [one for one in found if len(one.candidates) < k and one.guarded <= set(places(sides, draw))]
        for one, texts in zip(short, _drawn([one.row for one in short], sides, seed, draw, rewrite), strict=True):
            _take(one, texts, guard, tally)
        yield found


def _begun(row: RewriteRow, guard: Guard) -> RewriteState:
    guarded = {place for place, text in enumerate(row.texts) if guard.blocks((text,))}
    return RewriteState(row, guarded, taken={all_normalized(row.texts)})


def places(sides: Sides, draw: int) -> tuple[int, ...]:
    """Which texts of a row the draw rewrites."""
    return {"first": (0,), "second": (1,), "either": (draw % 2,), "both": (0, 1)}[sides]


def _drawn(rows: Sequence[RewriteRow], sides: Sides, seed: int, draw: int, rewrite: Rewriter) -> list[tuple[str, ...]]:
    """The texts of each row after this draw."""
    wanted = [(number, place) for number in range(len(rows)) for place in places(sides, draw)]
    seeds = [seed_of(seed, int.from_bytes(rows[number].key, "little"), draw, place) for number, place in wanted]
    texts = [list(row.texts) for row in rows]
    new = rewrite([rows[number].texts[place] for number, place in wanted], seeds)
    for (number, place), text in zip(wanted, new, strict=True):
        texts[number][place] = text
    return [tuple(several) for several in texts]


def _take(found: RewriteState, texts: tuple[str, ...], guard: Guard, tally: RewriteCounts) -> None:
    tally.drawn += 1
    plain = all_normalized(texts)
    if plain in found.taken or not all(plain):
        tally.repeated += 1
        return
    found.taken.add(plain)
    if guard.blocks(texts):
        tally.guarded += 1
        return
    found.candidates.append(Candidate(texts))
