"""``status.json`` and the HTML page of each run, below ``.runs`` in the storage: written by the run, read by others.

A run that was killed leaves the status ``running``. It is recognised by its process, if that was on this host, or by
the time since its last update.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from pipeline.artifacts.attempts import Owner, known_dead, this_process
from pipeline.monitor.format import time_left_text
from pipeline.monitor.run_state import RunState, RunStatus
from pipeline.monitor.summary import Summary
from stages.atomic import replacing

FORMAT = 1
RUNS = ".runs"
LOGS = ".logs"
STATUS = "status.json"
PAGE = "index.html"
GONE_AFTER = 60.0
"""Seconds without an update after which a run counts as gone. A live run updates its status every 10 s at least."""


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A run's ``status.json``, read back. ``status`` is by the reader's clock; ``document`` is the whole file."""

    run: str
    recipe: str
    status: RunStatus
    started: float
    updated: float
    folder: Path
    document: Mapping[str, Any]


def status_document(summary: Summary, run_state: RunState, logs: str) -> dict[str, Any]:
    """The content of ``status.json``. Times are in seconds since 1970; ``logs`` is the path of the folder of logs."""
    info = summary.info
    return {
        "format": FORMAT,
        "run": info.run,
        "recipe": info.recipe,
        "state": summary.status,
        "started": info.started,
        "updated": summary.now,
        "elapsed": round(summary.elapsed, 1),
        "owner": None if info.owner is None else asdict(info.owner),
        "storage": info.storage,
        "dashboard": info.dashboard,
        "logs": logs,
        "counts": asdict(summary.counts),
        "reused": summary.reused,
        "cpu_hours": round(summary.cpu_hours, 4),
        "gpu_hours": round(summary.gpu_hours, 4),
        "left": {**asdict(summary.left), "text": time_left_text(summary.left)},
        "tasks": {group.name: asdict(group.counts) for group in summary.tasks},
        "stages": {group.name: asdict(group.counts) for group in summary.stages},
        "running": [asdict(one) for one in summary.running],
        "failures": [asdict(failure) for failure in summary.failures],
        "nodes": [
            {
                "name": node_run.name,
                "key": node_run.key,
                "task": node_run.task,
                "role": node_run.role,
                "state": node_run.state,
                "attempt": node_run.attempt,
                "seconds": round(node_run.seconds(summary.now), 1),
                "cpus": node_run.cpus,
                "gpus": node_run.gpus,
                "why": node_run.why,
            }
            for node_run in run_state.node_runs
        ],
    }


def publish(folder: Path, document: Mapping[str, Any], page: str) -> None:
    """Write ``status.json`` and the page, each whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((STATUS, json.dumps(document) + "\n"), (PAGE, page)):
        with replacing(folder / name, volatile=True) as draft:
            draft.write_text(text, "utf-8")


def read_runs(storage: Path, now: float | None = None) -> list[PublishedRun]:
    """The runs of a storage, the latest first. A status that cannot be read is left out."""
    now = time.time() if now is None else now
    runs = [read_run(path.parent, now) for path in (storage / RUNS).glob(f"*/{STATUS}")]
    return sorted((run for run in runs if run), key=lambda run: run.started, reverse=True)


def read_run(folder: Path, now: float) -> PublishedRun | None:
    """The run whose status lies in ``folder``; None where that is missing, damaged, or of a newer format."""
    try:
        document = json.loads((folder / STATUS).read_text("utf-8"))
        if document["format"] > FORMAT:
            return None
        return PublishedRun(
            run=document["run"],
            recipe=document["recipe"],
            status=_status(document, now),
            started=float(document["started"]),
            updated=float(document["updated"]),
            folder=folder,
            document=document,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _status(document: Mapping[str, Any], now: float) -> RunStatus:
    status = document["state"]
    if status not in get_args(RunStatus):
        raise ValueError(status)
    if status != "running":
        return status  # type: ignore[no-any-return]
    owner = Owner(**document["owner"]) if document["owner"] else None
    if owner is not None and known_dead(owner, this_process()):
        return "gone"
    return "gone" if now - document["updated"] > GONE_AFTER else "running"
