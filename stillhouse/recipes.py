"""Recipes: load, plan, run, results, comparison, and the history of a training."""

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.cli.plan_table import as_items
from pipeline.cli.report import reported
from pipeline.cli.request import PlaceChoice, make_plan, storage_errors
from pipeline.cli.run import build_missing, check_place
from pipeline.errors import RequestError
from pipeline.monitor.forecast import forecast, planned_run
from pipeline.monitor.startup import Startup
from pipeline.plan.measurements import Measurements
from pipeline.recipe import Recipe
from pipeline.report.rows import COMPARED, flat
from stillhouse.sources import Changes, RecipeSource, found, recipe_of, resolved

if TYPE_CHECKING:
    import pandas

HISTORY = "history.json"
"""The file of a training with its epochs."""


class RunFailed(RuntimeError):
    """Some stage of a run failed; everything that does not depend on it was built. ``failures`` maps the name of each
    stage without a result to the reason."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in failures.items()))


def load_recipe(source: RecipeSource, sets: Changes = (), storage: str | os.PathLike[str] | None = None) -> Recipe:
    """The recipe in a YAML file, or in a mapping of its keys, checked and with its short forms written out.

    ``sets`` are changes, such as ``{"train.epochs": 2}``; ``storage`` is a directory or URL in the place of the
    recipe's own. Paths in a recipe are relative to the current folder. Raises RequestError.
    """
    if isinstance(source, Recipe) and (sets or storage is not None):
        raise RequestError("source: this recipe is loaded already; give its file or its keys to change it")
    return recipe_of(source, sets, storage)


def plan(recipe: RecipeSource, stage: str | None = None, inline: bool = False) -> "pandas.DataFrame":
    """What a run would do: a row for each stage's artifact, in the order in which each comes after its inputs.

    Columns: ``node``, ``task``, ``stage``, ``action`` (reuse, build, or skip), ``why``, ``rows`` and ``bytes`` (the
    expected size), ``seconds`` (of the build, by records of like work), ``key``. Sizes and times that are not known are
    missing values. ``stage`` names a stage that is to be built anew, with all that depends on it; ``inline`` is the run
    whose times are estimated. Builds nothing. Raises RequestError.
    """
    import pandas

    request = resolved(recipe, reads_data=True)
    planned = make_plan(request, stage, warnings.warn)
    with storage_errors(request.storage):
        expected = forecast(planned_run(planned, request.recipe, inline), request.recipe, Measurements(request.storage))
    rows = [
        {
            **{name: item[name] for name in ("node", "task", "stage", "action", "why")},
            "rows": step.rows.value,
            "bytes": step.bytes.value,
            "seconds": item["seconds"],
            "key": item["key"],
        }
        for step, item in zip(planned.steps, as_items(planned, expected), strict=True)
    ]
    frame = pandas.DataFrame(rows)
    return frame.astype({"rows": "Int64", "bytes": "Int64", "seconds": "Float64"})


def run(
    recipe: RecipeSource,
    *,
    inline: bool = False,
    gpu: bool = False,
    address: str | None = None,
    stage: str | None = None,
    progress: bool | None = None,
) -> "pandas.DataFrame":
    """Build what the recipe needs and is not built yet, and return ``results``.

    It runs on a Ray of its own on this machine, on the Ray at ``address`` (host:port, or auto), or ``inline`` in this
    process without Ray: one stage at a time, or with ``gpu`` side by side on this machine's first GPU. ``stage`` names
    a stage that is built anew, with all that depends on it. ``progress`` is shown on the standard error, by default
    only where that is a terminal. After an interrupt, the next run goes on from there. Raises RequestError before any
    work, and ``RunFailed`` at the end if a stage failed.
    """
    # OpenMP threads that wait by spinning make a busy machine ten times slower. torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    where = PlaceChoice(address, inline, gpu)
    check_place(where)
    shown = sys.stderr.isatty() if progress is None else progress
    console = Console(stderr=True, highlight=False, quiet=not shown)
    with signal_handlers_kept(), Startup(console) as startup:
        startup.step("reading the recipe, and the files and models that it names")
        request = resolved(recipe, reads_data=True)
        failures = build_missing(request, stage, where, console, startup, warnings.warn)
    if failures:
        raise RunFailed({failure.node.name: failure.message for failure in failures.values()})
    return results(request.recipe)


def results(recipe: RecipeSource) -> "pandas.DataFrame":
    """The scores of a recipe's models: a row for each task, method, student, seed, split and metric.

    Scores are x 100. ``status`` is done, failed or missing. Further columns: the teacher's score, parameters, seconds
    of training, latency, best epoch, the rows that its teachers read, and the model's directory (``artifact``). Builds
    nothing. Raises RequestError.
    """
    frame = _report_frame(recipe, None, False)
    return frame.drop(columns=list(COMPARED))


def compare(recipe: RecipeSource, baseline: str, last_epoch: bool = False) -> "pandas.DataFrame":
    """``results``, where every method is compared with the method ``baseline`` on the stored predictions.

    ``delta`` is the mean score minus that of the baseline, with a 95 % interval from ``low`` to ``high``; ``p`` is
    adjusted for the number of methods. For several tasks, rows of the task ``mean`` follow. ``last_epoch`` compares the
    last epochs in the place of those that were selected. docs/comparing.md explains the columns. Raises RequestError.
    """
    return _report_frame(recipe, baseline, last_epoch)


def _report_frame(recipe: RecipeSource, baseline: str | None, last_epoch: bool) -> "pandas.DataFrame":
    import pandas

    _, rows = reported(resolved(recipe, reads_data=False), baseline, last_epoch)
    return pandas.DataFrame([flat(row) for row in rows]).convert_dtypes()


def history(
    model: str | os.PathLike[str],
    recipe: RecipeSource | None = None,
    storage: str | os.PathLike[str] | None = None,
) -> "pandas.DataFrame":
    """The epochs of a model's training: a row for each, with its losses, weights, temperature and held-out score.

    ``model``, ``recipe`` and ``storage`` are those of ``load_student``. Values in blocks have names with a slash, such
    as ``terms/soft``. Raises RequestError for a model that was not trained here.
    """
    import pandas

    one = found(model, recipe, storage)
    if one.stored is None or not any(file.path == HISTORY for file in one.stored.record.files):
        raise RequestError(f"model: {one.name} is no training of this storage, so it has no history; name a student")
    record, place = one.stored.record, one.stored.storage
    with storage_errors(place):
        text = place.read(f"{record.folder}/{HISTORY}")
    if text is None:
        raise RequestError(f"model: {one.name}: its {HISTORY} is missing; run its recipe again")
    return pandas.json_normalize(json.loads(text)["epochs"], sep="/")


@contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Give SIGTERM its present handler back after the block, in which a run and Ray set their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
