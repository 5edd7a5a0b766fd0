"""Draws rewritten texts for training rows, by any rewriter, until each row has enough or a bound is reached.

The result of a draw depends on (seed, row key, number of the draw, side) alone. Needs no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from stages.candidates.table import Candidate
from stages.corpus.leakage import Guard, all_normalized
from stages.specs.seeds import seed_of

Sides = Literal["first", "second", "either", "both"]

DRAWS_PER_TEXT = 4
"""Draws of a row, at most, for each text that it should get: a draw may repeat an earlier one."""


class Rewriter(Protocol):
    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> Sequence[str]:
        """Each text rewritten, with random numbers from its own seed. A text may stay unchanged."""
        ...


@dataclass(frozen=True, slots=True)
class RewriteRow:
    """A training row that is to be rewritten."""

    key: bytes
    texts: tuple[str, ...]


@dataclass(slots=True)
class RewriteState:
    """The candidates of a row so far. ``taken``: normalised texts that it cannot get any more. ``guarded``: the
    positions of its own texts that the task is evaluated on, which must not stay in a candidate."""

    row: RewriteRow
    guarded: set[int]
    candidates: list[Candidate] = field(default_factory=list)
    taken: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(slots=True)
class RewriteCounts:
    """Counts of texts: ``drawn`` in all, and left out because they are ``guarded`` (the task is evaluated on them) or
    ``repeated``."""

    drawn: int = 0
    guarded: int = 0
    repeated: int = 0


def rewritten(
    rows: Sequence[RewriteRow], k: int, sides: Sides, seed: int, guard: Guard, rewrite: Rewriter, counts: RewriteCounts
) -> Iterator[list[RewriteState]]:
    """Draw at most ``k`` candidates for each row, and count the draws in ``counts``. Yields the states of all rows
    after each draw; the last ones are complete."""
    found = [_initial(row, guard) for row in rows]
    for draw in range(DRAWS_PER_TEXT * k):
        short = [one for one in found if len(one.candidates) < k and one.guarded <= set(places(sides, draw))]
        for one, texts in zip(short, _drawn([one.row for one in short], sides, seed, draw, rewrite), strict=True):
            _take(one, texts, guard, counts)
        yield found


def _initial(row: RewriteRow, guard: Guard) -> RewriteState:
    guarded = {place for place, text in enumerate(row.texts) if guard.blocks((text,))}
    return RewriteState(row, guarded, taken={all_normalized(row.texts)})


def places(sides: Sides, draw: int) -> tuple[int, ...]:
    """The positions of the texts that a draw rewrites."""
    return {"first": (0,), "second": (1,), "either": (draw % 2,), "both": (0, 1)}[sides]


def _drawn(rows: Sequence[RewriteRow], sides: Sides, seed: int, draw: int, rewrite: Rewriter) -> list[tuple[str, ...]]:
    """The texts of each row with those at ``places`` rewritten."""
    wanted = [(number, place) for number in range(len(rows)) for place in places(sides, draw)]
    seeds = [seed_of(seed, int.from_bytes(rows[number].key, "little"), draw, place) for number, place in wanted]
    texts = [list(row.texts) for row in rows]
    new = rewrite([rows[number].texts[place] for number, place in wanted], seeds)
    for (number, place), text in zip(wanted, new, strict=True):
        texts[number][place] = text
    return [tuple(several) for several in texts]


def _take(found: RewriteState, texts: tuple[str, ...], guard: Guard, counts: RewriteCounts) -> None:
    """Add a drawn text to the candidates of its row, if it may be one."""
    counts.drawn += 1
    key = all_normalized(texts)
    if key in found.taken or not all(key):
        counts.repeated += 1
        return
    found.taken.add(key)
    if guard.blocks(texts):
        counts.guarded += 1
        return
    found.candidates.append(Candidate(texts))
