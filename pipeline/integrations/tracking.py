"""Trainings told to a tracker, MLflow or W&B, when their models are committed.

The driver tells, in a thread of its own, from what the artifact holds. So workers need neither the library nor its
credentials, a training that was cut is told once, and whatever the tracker does, no stage waits for it or fails by it.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.artifacts.record import Record
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node
from pipeline.integrations.tensorboard_links import named_trainings
from pipeline.integrations.training_report import Leaf, Tracker, TrainingReport
from pipeline.recipe import Tracking
from pipeline.storage import Storage

LEAVE_SECONDS = 30.0
"""How long the end of a run waits for a tracker."""
OnCommit = Callable[[Node, Record], None]


def check_tracking(tracking: Tracking | None) -> None:
    """Refuse a tracker whose library is not there, before any work."""
    if tracking is not None and find_spec(tracking.kind) is None:
        raise RequestError(
            f"tracking.kind: {tracking.kind}, which is not installed here; "
            f"pip install -c constraints.txt '.[{tracking.kind}]', or take tracking out"
        )


@contextmanager
def tracked(
    tracking: Tracking | None, graph: Graph, storage: Storage, folder: Path, warn: Callable[[str], None]
) -> Iterator[OnCommit]:
    """What is to hear of each artifact that is built; the tracker is told of those that are trainings. ``folder`` is
    for what a library keeps on this machine."""
    if tracking is None:
        yield lambda *_: None
        return
    thread = TrackingThread(lambda: open_tracker(tracking, folder), graph, storage, warn)
    try:
        yield thread.committed
    except BaseException:
        thread.close(0.0)
        raise
    thread.close()


def open_tracker(tracking: Tracking, folder: Path) -> Tracker:
    """Imports the library, which takes seconds."""
    if tracking.kind == "mlflow":
        from pipeline.integrations.mlflow import MlflowTracker

        return MlflowTracker(tracking.uri, tracking.project)
    from pipeline.integrations.wandb import WandbTracker

    return WandbTracker(tracking.uri, tracking.project, folder)


class TrackingThread:
    """Tells of trainings as they end. A tracker that fails is warned of once, and told no more."""

    def __init__(
        self, open_tracker: Callable[[], Tracker], graph: Graph, storage: Storage, warn: Callable[[str], None]
    ) -> None:
        """``open_tracker`` is called in the diary's thread, when there is something to tell."""
        self._open = open_tracker
        self._names = {node.key: name for name, node in named_trainings(graph).items()}
        self._storage = storage
        self._warn = warn
        self._ended: queue.SimpleQueue[tuple[Node, Record] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name="tracking", daemon=True)
        self._thread.start()

    def committed(self, node: Node, record: Record) -> None:
        """Returns at once."""
        if node.key in self._names:
            self._ended.put((node, record))

    def close(self, timeout: float = LEAVE_SECONDS) -> None:
        """Wait until all is told, but no longer than so many seconds."""
        self._ended.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(f"tracking: not all was told within {timeout:g} s")

    def _keep(self) -> None:
        report: Tracker | None = None
        while (ended := self._ended.get()) is not None:
            try:
                report = report or self._open()
                report(report_of(self._names[ended[0].key], *ended, self._storage))
            except Exception as error:  # a tracker is no reason for a run to fail
                self._warn(f"tracking: {type(error).__name__}: {_line(error)}; no more is told in this run")
                return


def report_of(name: str, node: Node, record: Record, storage: Storage) -> TrainingReport:
    """What there is to tell of a training, from its artifact."""
    history = json.loads(storage.read(f"{record.folder}/history.json") or "")
    committed = datetime.fromisoformat(record.committed).timestamp()
    return TrainingReport(
        name=name,
        parameters=dict(_flat(record.spec)),
        epochs=[_epoch(epoch) for epoch in history["epochs"]],
        ends=_ends(history, record),
        tags={
            "recipe": record.recipe,
            "node": record.name,
            "task": node.task,
            "stage": node.role,
            "key": record.key,
            "artifact": storage.where(record.folder),
            "code": record.code,
        },
        began=committed - record.seconds,
        seconds=record.seconds,
    )


def _epoch(epoch: Mapping[str, object]) -> dict[str, float]:
    """The numbers of an epoch of the history, those on candidates with their block's name."""
    flat = dict(_flat(epoch))
    return {name: float(value) for name, value in flat.items() if isinstance(value, int | float) and name != "epoch"}


def _ends(history: Mapping[str, Mapping[str, Mapping[str, float]]], record: Record) -> dict[str, float]:
    scores = {
        f"{prefix}{split}_{metric}": float(score)
        for prefix, name in (("", "scores"), ("last_epoch_", "last_epoch_scores"))
        for split, found in history[name].items()
        for metric, score in found.items()
    }
    named = ("best_epoch", "parameters", "rows", "train_seconds")
    return scores | {name: float(record.facts[name]) for name in named if name in record.facts}


def _flat(value: Any, name: str = "") -> Sequence[tuple[str, Leaf]]:
    """Leaves by their dotted names; lists as JSON; what is null is left out."""
    if isinstance(value, Mapping):
        return [leaf for key, part in value.items() for leaf in _flat(part, f"{name}.{key}" if name else key)]
    if value is None:
        return []
    return [(name, value if isinstance(value, str | int | float | bool) else json.dumps(value))]


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else ""
