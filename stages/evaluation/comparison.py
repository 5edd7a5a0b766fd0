"""Whether one method scores higher than another: a paired bootstrap over rows and seeds. docs/comparing.md explains it.

Two methods are compared on the same rows, and by pairs of trainings with the same seed. The difference of two mean
scores varies for two reasons: other rows might have been evaluated, and other seeds might have been trained. Rows are
resampled with replacement, the same rows for both methods and all seeds. With 3 or 5 seeds, to resample seeds as well
would make intervals too narrow, by the factor sqrt((S - 1) / S) and because the spread of so few is hardly known; and
it would count twice that methods disagree on other rows in each training. So the part of the seeds is drawn as a normal
variable of the variance that an analysis of variance attributes to them, and the sum of both parts is studentised, with
Satterthwaite's degrees of freedom.

    Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007 (rows crossed with a second factor)
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile intervals)
    Satterthwaite, An approximate distribution of estimates of variance components, Biometrics 1946
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979
    Schuirmann, A comparison of the two one-sided tests procedure, Journal of Pharmacokinetics 1987 (equivalence)

Shapes: B replicates, S seeds. Needs numpy only.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluation.resampling import Floats


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Score of one method minus score of the other, in points (x 100), for each pair of trainings with one seed: on the
    rows as they are, (S,), and in each replicate of the rows, (B, S)."""

    observed: Floats
    replicates: Floats


def mean_of_splits(splits: Sequence[PairedScores]) -> PairedScores:
    """The mean over several splits, on which the same models are evaluated."""
    replicates = min(len(split.replicates) for split in splits)
    return PairedScores(
        np.mean([split.observed for split in splits], axis=0),
        np.mean([split.replicates[:replicates] for split in splits], axis=0),
    )


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """The mean difference of two methods on one task, in points, and how it might differ with other rows and seeds.

    ``errors`` (B,) are drawn from the distribution of its error, whose variance is ``variance``. ``seed_variance`` is
    the part of that variance which rests on the spread between S seeds, so that it is known with S - 1
    ``degrees_of_freedom``. Both are 0 with one seed, and where the seeds do not differ by more than their rows explain.
    """

    delta: float
    errors: Floats
    variance: float
    seed_variance: float
    degrees_of_freedom: int


def difference(pairs: PairedScores, random_seed: int) -> MeanDifference:
    """The difference of two methods over S pairs of trainings.

    With s2 the sample variance of the S observed differences, v the variance of their mean over replicates, and i the
    variance over replicates that is not common to all seeds (methods disagree on other rows in each training), the
    variance is v + max(0, s2 - i) / S. v contains i / S already, and so does s2 / S. Where s2 <= i, the variance is v,
    which is that of the rows alone and does not rest on the spread between the seeds.
    """
    seeds = len(pairs.observed)
    delta = float(pairs.observed.mean())
    row_errors = pairs.replicates.mean(axis=1) - delta
    row_variance = float(row_errors.var())
    if seeds == 1:
        return MeanDifference(delta, row_errors, row_variance, 0.0, 0)
    deviations = pairs.replicates - pairs.replicates.mean(axis=0)
    unshared_row_variance = float(deviations.var(axis=1, ddof=1).mean())
    spread = float(pairs.observed.var(ddof=1))
    if spread <= unshared_row_variance:
        return MeanDifference(delta, row_errors, row_variance, 0.0, 0)
    training_variance = (spread - unshared_row_variance) / seeds
    # Normal weights for the deviations of the seeds: the sign of the sum changes when the methods are exchanged.
    weights = np.random.default_rng((random_seed, 1)).standard_normal((len(row_errors), seeds))
    scale = np.sqrt(training_variance / (spread * (seeds - 1)))
    errors = row_errors + scale * (weights @ (pairs.observed - delta))
    return MeanDifference(delta, errors, row_variance + training_variance, spread / seeds, seeds - 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two methods in points, ``delta``, with a 95 % interval from ``low`` to ``high``. ``p`` is the
    two-sided p-value. The difference is less than ``within`` in size at 95 %, by two one-sided tests."""

    delta: float
    low: float
    high: float
    p: float
    within: float


def compare(tasks: Sequence[MeanDifference], random_seed: int) -> Comparison:
    """The mean over tasks of their differences; of one task, its difference. Tasks are independent: their trainings and
    rows have nothing in common. They count as they are, and not as a sample of all tasks."""
    replicates = min(len(task.errors) for task in tasks)
    delta = float(np.mean([task.delta for task in tasks]))
    errors = np.mean([task.errors[:replicates] for task in tasks], axis=0)
    freedom = degrees_of_freedom(tasks)
    if np.isfinite(freedom):
        draws = np.random.default_rng((random_seed, 2)).chisquare(freedom, replicates)
        errors = errors * np.sqrt(freedom / draws)
    values = delta + errors
    low, nearly_low, nearly_high, high = np.quantile(values, (0.025, 0.05, 0.95, 0.975))
    tail = min((values <= 0).mean(), (values >= 0).mean())
    return Comparison(
        delta,
        float(low),
        float(high),
        float(min(1.0, max(2 * tail, 1 / replicates))),
        float(max(abs(nearly_low), abs(nearly_high))),
    )


def degrees_of_freedom(tasks: Sequence[MeanDifference]) -> float:
    """Satterthwaite's degrees of freedom of the variance of a mean over tasks: infinite where no seeds vary."""
    variance = sum(task.variance for task in tasks)
    uncertainty = sum(task.seed_variance**2 / task.degrees_of_freedom for task in tasks if task.degrees_of_freedom)
    if not uncertainty:
        return float("inf")
    fewest = min(task.degrees_of_freedom for task in tasks if task.degrees_of_freedom)
    return max(float(fewest), variance**2 / uncertainty)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979), in the given order: the k-th smallest of n is multiplied by
    n - k + 1, and none is below a smaller one."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def gap_closed(score: float, baseline: float, teacher: float) -> float | None:
    """How much of the way from the baseline's score to the teacher's a method covers, in percent; None where the
    teacher does not score higher than the baseline."""
    return 100 * (score - baseline) / (teacher - baseline) if teacher > baseline else None


def seed_from_bytes(*parts: bytes) -> int:
    """A seed of 128 bits for random numbers from the data that they are drawn for, so that equal data give equal
    intervals."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return int.from_bytes(digest.digest()[:16], "big")
