"""What ``report --baseline`` can find: the smallest true difference whose 95 % interval excludes 0 in 80 % of cases.

    python -m benchmarks power [--rate 0.1] [--own 0.5] [--seed-sd 0.5] [--experiments 1000]

Prints the table of docs/comparing.md. Simulated, with the comparison's own functions: two methods of which, in a pair
of trainings with one seed, exactly one is right on a share ``rate`` of the rows. The share ``own`` of that disagreement
belongs to the row and is the same in all pairs of trainings; the rest is new in each. The true difference of a pair of
trainings, over all rows that there might be, varies with a standard deviation of ``seed-sd`` points. Takes a minute.
"""

import argparse
from collections.abc import Sequence
from math import sqrt

import numpy as np

from stages.evaluation.comparison import PairedScores, compare, difference

ROWS = (277, 400, 872, 1500, 5000, 40_000)
SEEDS = (1, 3, 5, 10)
POWER = 0.8
REPLICATES = 1000


def smallest_found(rows: int, seeds: int, rate: float, own: float, seed_sd: float, experiments: int) -> float:
    """The difference in points that is found with a probability of ``POWER``: a quantile of the distance from the true
    difference down to the low end of its interval."""
    row_sd, cell_sd = 100 * sqrt(rate * own / rows), 100 * sqrt(rate * (1 - own) / rows)
    distances = []
    for number in range(experiments):
        draw = np.random.default_rng((rows, seeds, number))
        observed = row_sd * draw.standard_normal() + sqrt(seed_sd**2 + cell_sd**2) * draw.standard_normal(seeds)
        common, of_cells = draw.standard_normal((REPLICATES, 1)), draw.standard_normal((REPLICATES, seeds))
        pairs = PairedScores(observed, observed + row_sd * common + cell_sd * of_cells)
        distances.append(-compare([difference(pairs, number)], number).low)
    return float(np.quantile(distances, POWER))


def main(arguments: Sequence[str]) -> int:
    """Print the table in Markdown. Returns 0."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks power",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, value in (("rate", 0.1), ("own", 0.5), ("seed-sd", 0.5)):
        options.add_argument(f"--{name}", type=float, default=value)
    options.add_argument("--experiments", type=int, default=1000)
    given = options.parse_args(arguments)
    heads = ["1 seed" if seeds == 1 else f"{seeds} seeds" for seeds in SEEDS]
    print(f"| rows | {' | '.join(heads)} |\n| ---: |{' ---: |' * len(heads)}")
    for rows in ROWS:
        found = [
            smallest_found(rows, seeds, given.rate, given.own, given.seed_sd, given.experiments) for seeds in SEEDS
        ]
        print(f"| {rows:,} | {' | '.join(f'{one:.1f}' for one in found)} |", flush=True)
    return 0
