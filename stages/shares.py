"""Parts that make up a whole: what each of several models counts for. Needs the standard library only."""

import math
from collections.abc import Sequence


def together_one(shares: Sequence[float]) -> bool:
    """Whether they sum to 1, as far as decimal digits in a recipe can say it."""
    return math.isclose(sum(shares), 1, rel_tol=0.0, abs_tol=1e-6)


def or_equal(shares: tuple[float, ...] | None, count: int) -> tuple[float, ...]:
    """The shares as given, or equal ones of ``count``."""
    return (1 / count,) * count if shares is None else shares
