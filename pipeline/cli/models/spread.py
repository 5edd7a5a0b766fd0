"""Predictions in the workers of a running Ray."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.resources import Capacity, On, Place, Resources, SilentListener
from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.request import PlaceChoice
from pipeline.cli.run_plan import open_place
from pipeline.errors import RequestError, bounded
from pipeline.execution.signals import interrupt_on_sigterm
from pipeline.execution.visibility import REMEDY
from pipeline.monitor.startup import Startup
from pipeline.plan.resources import default
from pipeline.storage.mirror import InputMirror
from stages.deployment.description import ModelDescription, is_onnx
from stages.deployment.rows import TextChunks

if TYPE_CHECKING:
    from stages.deployment.classifier import FloatLogits

PENDING = 600.0
"""Seconds that workers beyond the present nodes wait for more of them: as ``limits.pending`` by default."""


class StandardError(SilentListener):
    """Prints what the workers wait for, and nothing else."""

    def note(self, text: str) -> None:
        print(f"stillhouse: {text}", file=sys.stderr)

    def log(self, line: str) -> None:
        self.note(line)


@contextmanager
def spread_over(
    address: str, model: FoundModel, description: ModelDescription, chunks: TextChunks
) -> "Iterator[Iterator[FloatLogits]]":
    """The logits of each chunk of rows, in order, computed in the workers of the Ray at ``address``, for as long as the
    block runs. Raises RequestError if the Ray cannot be reached, if a node does not see the model, and, while the
    logits are read, if the model does not load. The workers' failures are ConnectionError, TimeoutError and
    ``WorkerDied``."""
    from cluster.temporary import temporary_folder

    with temporary_folder("predict") as logs, Startup(Console(stderr=True, highlight=False)) as startup:
        startup.step(f"connecting to Ray at {address}")
        place = open_place(PlaceChoice(address), logs, PENDING)
        interrupt_on_sigterm()
        try:
            mirror = _mirror(model)
            if mirror is None:
                check_seen(place, model.directory)
            on = place.on(resources(place.capacity(), model.directory), StandardError(), mirror)
            startup.end()
            yield _logits(on, model, description, chunks)
        finally:
            place.close()


def _logits(on: On, model: FoundModel, description: ModelDescription, chunks: TextChunks) -> "Iterator[FloatLogits]":
    from stages.deployment.predict import PredictionJob, logits_of_workers

    job = PredictionJob(model.directory.absolute(), description.max_length)
    try:
        yield from logits_of_workers(on, job, chunks)
    except ValueError as error:  # in a worker: the model does not load there
        raise RequestError(f"MODEL: {bounded(str(error))}") from error


def resources(capacity: Capacity, directory: Path) -> Resources:
    """As many workers as the present nodes hold: with a GPU each where there are any, but for an ONNX model, which runs
    on the CPU."""
    usual = default("teach", capacity)
    each = replace(usual, gpus_per_worker=0.0) if is_onnx(directory) else usual
    return replace(each, workers=max(1, capacity.room(each.each)))


def check_seen(place: Place, directory: Path) -> None:
    """Raise RequestError if a node does not see a file of the model."""
    files = sorted(str(path) for path in directory.absolute().iterdir() if path.is_file())
    blind = sorted({node for node, _ in place.unseen(files)})
    if blind:
        more = f" and {len(blind) - 1} more" if len(blind) > 1 else ""
        raise RequestError(f"MODEL: {directory} is not visible on node {blind[0]}{more}; {REMEDY}")


def _mirror(model: FoundModel) -> InputMirror | None:
    """What fetches the model to each machine, where it is in a bucket."""
    stored = model.stored
    if stored is None or stored.storage.shared:
        return None
    return InputMirror(stored.storage, {stored.record.folder: stored.record.files_below()})
