"""Runs as they are told to others: ``status.json`` and the page of each, below ``.runs`` in the storage.

A run writes its own; anyone who sees the storage may read all. A run that died wrote nothing at its end: it is told
from one that lives by its process, or by how long it gave no sign.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from pipeline.artifacts.attempts import Owner, known_dead, this_process
from pipeline.monitor.format import left_text
from pipeline.monitor.run_state import End, RunState
from pipeline.monitor.summary import Summary

FORMAT = 1
RUNS = ".runs"
LOGS = ".logs"
STATUS = "status.json"
PAGE = "index.html"
GONE_AFTER = 60.0
"""Seconds without a sign after which a run is held for gone. It writes at least every ten."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is told of a run. ``end`` is how it stands by the reader's clock; ``document`` is all that it wrote."""

    run: str
    recipe: str
    end: End
    started: float
    updated: float
    folder: Path
    document: Mapping[str, Any]


def as_document(summary: Summary, run_state: RunState, logs: str) -> dict[str, Any]:
    """What ``status.json`` holds. Times are in seconds since 1970, ``logs`` is where the logs lie."""
    about = summary.about
    return {
        "format": FORMAT,
        "run": about.run,
        "recipe": about.recipe,
        "state": summary.end,
        "started": about.started,
        "updated": summary.now,
        "elapsed": round(summary.elapsed, 1),
        "owner": None if about.owner is None else asdict(about.owner),
        "storage": about.storage,
        "dashboard": about.dashboard,
        "logs": logs,
        "counts": asdict(summary.counts),
        "reused": summary.reused,
        "cpu_hours": round(summary.cpu_hours, 4),
        "gpu_hours": round(summary.gpu_hours, 4),
        "left": {**asdict(summary.left), "text": left_text(summary.left)},
        "tasks": {group.name: asdict(group.counts) for group in summary.tasks},
        "stages": {group.name: asdict(group.counts) for group in summary.stages},
        "running": [asdict(one) for one in summary.running],
        "failures": [asdict(fault) for fault in summary.faults],
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
    """Write both, each whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((STATUS, json.dumps(document) + "\n"), (PAGE, page)):
        draft = folder / f".{name}.tmp"
        try:
            draft.write_text(text, "utf-8")
            os.replace(draft, folder / name)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def read_runs(storage: Path, now: float | None = None) -> list[Status]:
    """The runs of a storage, the latest first. What cannot be read is passed over."""
    now = time.time() if now is None else now
    found = [read_run(path.parent, now) for path in (storage / RUNS).glob(f"*/{STATUS}")]
    return sorted((status for status in found if status), key=lambda status: status.started, reverse=True)


def read_run(folder: Path, now: float) -> Status | None:
    """One run; None where its status is absent, damaged, or of a newer version."""
    try:
        document = json.loads((folder / STATUS).read_text("utf-8"))
        if document["format"] > FORMAT:
            return None
        return Status(
            run=document["run"],
            recipe=document["recipe"],
            end=_end(document, now),
            started=float(document["started"]),
            updated=float(document["updated"]),
            folder=folder,
            document=document,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _end(document: Mapping[str, Any], now: float) -> End:
    end = document["state"]
    if end not in get_args(End):
        raise ValueError(end)
    if end != "running":
        return end  # type: ignore[no-any-return]
    owner = Owner(**document["owner"]) if document["owner"] else None
    if owner is not None and known_dead(owner, this_process()):
        return "gone"
    return "gone" if now - document["updated"] > GONE_AFTER else "running"
