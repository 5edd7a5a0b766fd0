"""The functions that begin a measurement in a worker. Heavy modules are imported only here, which is measured, too."""

import time
from collections.abc import Callable

from cluster.resources import Worker
from stages.timing.job import BankTiming, Figures, ModelFigures, ModelTiming, TokenizerTiming


def time_model(job: ModelTiming, worker: Worker) -> ModelFigures:
    """Measure a model in a training worker."""
    began = time.monotonic()
    from stages.timing.models import measure_model

    return measure_model(job, worker, time.monotonic() - began)


def time_nothing(_job: None, _worker: Worker) -> None:
    """Do nothing in a worker, so that the caller can measure how long that takes."""


def open_nothing(_job: None, _worker: Worker) -> Callable[[int], int]:
    """The same for a map."""
    return lambda item: item


def open_tokenizer_timing(job: TokenizerTiming, _worker: Worker) -> Callable[[int], Figures]:
    """Return a function that measures the tokenizer."""
    from stages.timing.texts import measure_tokenizer

    return lambda _: measure_tokenizer(job)


def open_bank_timing(job: BankTiming, worker: Worker) -> Callable[[int], Figures]:
    """Return a function that measures the bank's texts."""
    from stages.timing.texts import measure_bank

    return lambda _: measure_bank(job, worker)
