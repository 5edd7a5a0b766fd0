"""The interval of a mean over seeds. Needs scipy, which is imported when it is called."""

import statistics
from collections.abc import Sequence


def seed_interval(scores: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The ends of the interval at ``level`` of the mean of S scores that differ in their seed alone, by Student's t
    with S - 1 degrees of freedom; None for fewer than two. It says where the mean over many more seeds would lie on the
    same rows; a comparison of two methods (``comparison``) also has the error of the rows."""
    if len(scores) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, len(scores) - 1)) * statistics.stdev(scores) / len(scores) ** 0.5
    mean = statistics.fmean(scores)
    return mean - half, mean + half
