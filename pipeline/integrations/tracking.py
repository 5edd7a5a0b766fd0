"""Trainings are sent to a tracker, MLflow or W&B, when their models are committed.

The driver sends them from a thread, and reads them from the artifact. So workers need neither the library nor its
credentials, a training that was interrupted and resumed is sent once, and a tracker that is slow or fails delays and
fails no stage.
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

CLOSE_SECONDS = 30.0
"""How long the end of a run waits for the tracker."""
OnCommit = Callable[[Node, Record], None]
"""Called with each node and the record of its new artifact."""


def check_tracking(tracking: Tracking | None) -> None:
    """Raises RequestError, before any work, if the tracker's library is not installed."""
    if tracking is not None and find_spec(tracking.kind) is None:
        raise RequestError(
            f"tracking.kind: {tracking.kind}, which is not installed here; "
            f"pip install -c constraints.txt '.[{tracking.kind}]', or take tracking out"
        )


@contextmanager
def tracked(
    tracking: Tracking | None, graph: Graph, storage: Storage, folder: Path, warn: Callable[[str], None]
) -> Iterator[OnCommit]:
    """A function to call with each artifact that is built: those that are trainings are sent to the tracker. At the end
    of the block, waits until all are sent, up to ``CLOSE_SECONDS``; not at all after an exception. ``folder`` is for
    local files of the tracker's library."""
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
    """The tracker of a recipe. Imports its library, which takes seconds."""
    if tracking.kind == "mlflow":
        from pipeline.integrations.mlflow import MlflowTracker

        return MlflowTracker(tracking.uri, tracking.project)
    from pipeline.integrations.wandb import WandbTracker

    return WandbTracker(tracking.uri, tracking.project, folder)


class TrackingThread:
    """Sends trainings to a tracker as they end. If the tracker fails, there is one warning and no more is sent."""

    def __init__(
        self, open_tracker: Callable[[], Tracker], graph: Graph, storage: Storage, warn: Callable[[str], None]
    ) -> None:
        """``open_tracker`` is called in the thread, when the first training has ended."""
        self._open = open_tracker
        self._names = {node.key: name for name, node in named_trainings(graph).items()}
        self._storage = storage
        self._warn = warn
        self._ended: queue.SimpleQueue[tuple[Node, Record] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_all, name="tracking", daemon=True)
        self._thread.start()

    def committed(self, node: Node, record: Record) -> None:
        """Queue an artifact to be sent, if it is a training. Returns at once."""
        if node.key in self._names:
            self._ended.put((node, record))

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Wait until all queued trainings are sent, ``timeout`` seconds at most; then warn."""
        self._ended.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn(f"tracking: not all trainings were sent within {timeout:g} s")

    def _send_all(self) -> None:
        send: Tracker | None = None
        while (ended := self._ended.get()) is not None:
            try:
                send = send or self._open()
                send(report_of(self._names[ended[0].key], *ended, self._storage))
            except Exception as error:  # a tracker is no reason for a run to fail
                self._warn(f"tracking: {type(error).__name__}: {_line(error)}; nothing more is sent in this run")
                return


def report_of(name: str, node: Node, record: Record, storage: Storage) -> TrainingReport:
    """The report of a training, from its record and its history.json."""
    history = json.loads(storage.read(f"{record.folder}/history.json") or "")
    committed = datetime.fromisoformat(record.committed).timestamp()
    return TrainingReport(
        name=name,
        parameters=parameters_of(record),
        epochs=[_epoch(epoch) for epoch in history["epochs"]],
        final=_ends(history, record),
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


def parameters_of(record: Record) -> dict[str, Leaf]:
    """The settings of a training by dotted name, with the learning rate that its sweep chose, if it had one."""
    found = dict(_flat(record.spec))
    if "learning_rate" in record.facts:
        found["train.learning_rate"] = float(record.facts["learning_rate"])
    return found


def _epoch(epoch: Mapping[str, object]) -> dict[str, float]:
    """The numbers of an epoch of the history by name; those in a nested block have its name before theirs."""
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
    """(dotted name, value) of each leaf: lists as JSON, nulls left out."""
    if isinstance(value, Mapping):
        return [leaf for key, part in value.items() for leaf in _flat(part, f"{name}.{key}" if name else key)]
    if value is None:
        return []
    return [(name, value if isinstance(value, str | int | float | bool) else json.dumps(value))]


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else ""
