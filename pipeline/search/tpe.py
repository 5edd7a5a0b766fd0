"""Proposals of Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), without any state of its own."""

import hashlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from pipeline.errors import RequestError
from pipeline.recipe import SearchSettings, ValueList, ValueRange
from pipeline.search.values import TrialBefore, Values, rounded


def check_installed() -> None:
    """Raise RequestError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise RequestError(
            "search.by: tpe, but Optuna is not installed here; pip install -c constraints.txt '.[search]', or give "
            "by: random"
        )


def tpe_values(search: SearchSettings, before: Sequence[TrialBefore], count: int) -> Iterator[Values]:
    """Endless proposals, of which ``count`` are to be tried at the same time. Some may have been tried before.

    A study is made for each call, told all trials before in their order, and seeded by the search's seed and their
    number. So the proposals do not depend on how often the search was stopped meanwhile.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Proposals that are trained at the same time count as bad ones, so that they differ from each other.
    sampler = optuna.samplers.TPESampler(seed=_seed(search.seed, len(before)), constant_liar=count > 1)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    distributions = {path: _distribution(values) for path, values in search.vary.items()}
    for trial in before:
        given = {path: _parameter(search.vary[path], value) for path, value in trial.values.items()}
        state = optuna.trial.TrialState.COMPLETE if trial.goodness is not None else optuna.trial.TrialState.FAIL
        study.add_trial(
            optuna.trial.create_trial(state=state, params=given, distributions=distributions, value=trial.goodness)
        )
    while True:
        asked = study.ask(distributions).params
        yield {path: _value(values, asked[path]) for path, values in search.vary.items()}


def _seed(seed: int, number: int) -> int:
    """A seed of 32 bits of its own for each number of trials before."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "big")


def _distribution(values: ValueList | ValueRange) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, ValueList):
        return CategoricalDistribution(tuple(range(len(values.values))))
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(float(values.low), float(values.high), log=values.log)


def _parameter(values: ValueList | ValueRange, value: Any) -> Any:
    """A value as Optuna has it: one of a list by its place."""
    return values.values.index(value) if isinstance(values, ValueList) else value


def _value(values: ValueList | ValueRange, parameter: Any) -> Any:
    if isinstance(values, ValueList):
        return values.values[parameter]
    return parameter if values.whole else rounded(values, parameter)
