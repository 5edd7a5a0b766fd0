"""Which values a search tries next.

Every sampler is a pure function of the search's settings and the trials before, in their order. So a search that was
killed goes on with the proposals that it would have had, and one with more trials begins with those that it had.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.recipe import SearchSettings, ValueList, ValueRange
from pipeline.search.values import TrialBefore, Values, identity, rounded

MOST_DRAWS = 100
"""Draws for each trial wanted: as drawn numbers are rounded, a range of fractions has an end, too."""
MOST_REPEATS = 100
"""How many more times TPE proposes where its proposal was tried before; random values take its place after that."""


def propose(
    search: SearchSettings,
    before: Sequence[TrialBefore],
    count: int,
    accepted: Callable[[Values], bool] = lambda _: True,
) -> list[Values]:
    """The next ``count`` values to try, none of them among ``before``; fewer where no other combination is left.
    ``accepted`` says whether the recipe takes them; where it does not, others take their place."""
    used = {identity(trial.values) for trial in before}
    if search.by == "grid":
        candidates = every_combination(search)
    elif search.combinations is not None and search.combinations <= len(used) + count:
        candidates = iter(sorted(every_combination(search), key=identity))
    else:
        candidates = itertools.islice(random_values(search), MOST_DRAWS * (len(used) + count))
        if search.by == "tpe":
            from pipeline.search.tpe import tpe_values

            asked = itertools.islice(tpe_values(search, before, count), MOST_REPEATS + count)
            candidates = itertools.chain(asked, candidates)
    return list(itertools.islice(filter(accepted, _distinct(used, candidates)), count))


def _distinct(used: set[str], candidates: Iterator[Values]) -> Iterator[Values]:
    """The candidates whose identity is not ``used``, each once."""
    for values in candidates:
        if identity(values) not in used:
            used.add(identity(values))
            yield values


def every_combination(search: SearchSettings) -> Iterator[Values]:
    """All combinations of values, the last path changing fastest. For a search whose ``combinations`` is a number."""
    lists = [_members(values) for values in search.vary.values()]
    for combination in itertools.product(*lists):
        yield dict(zip(search.vary, combination, strict=True))


def _members(values: ValueList | ValueRange) -> Sequence[Any]:
    return values.values if isinstance(values, ValueList) else range(int(values.low), int(values.high) + 1)


# --- random draws ---------------------------------------------------------------------------------


def random_values(search: SearchSettings) -> Iterator[Values]:
    """Endless seeded draws. The draw for a path depends on the seed, the path and the draw's number alone."""
    for number in itertools.count():
        yield {
            path: drawn(values, random.Random(f"{search.seed} {path} {number}").random())
            for path, values in search.vary.items()
        }


def drawn(values: ValueList | ValueRange, unit: float) -> Any:
    """The value at ``unit``, from 0 to below 1, of the values in their order."""
    if isinstance(values, ValueList):
        return values.values[int(unit * len(values.values))]
    low, high = values.low, values.high
    if values.whole:
        found = math.exp(_between(math.log(low), math.log(high + 1), unit)) if values.log else low
        return min(int(found if values.log else _between(low, high + 1, unit)), int(high))
    if values.log:
        return rounded(values, math.exp(_between(math.log(low), math.log(high), unit)))
    return rounded(values, _between(low, high, unit))


def _between(low: float, high: float, unit: float) -> float:
    return low + unit * (high - low)
