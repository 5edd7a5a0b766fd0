"""The trials of a search: which have been proposed, as the storage knows them, and what became of each.

A proposal is a document, written before its training begins::

    .searches/<recipe>/<task>/<method>/<student>/<number>.json      the values, and the key of the training

It is no result: the training is an artifact by content like any other, and its score is read from there. So a search
is the same whether it was stopped in between or not, and one whose ranges are wider or that has more trials counts
every trial that it has. A proposal counts only if the present search could make it and it leads to the same key.
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pipeline.artifacts.failure import has_failed, note_name
from pipeline.artifacts.record import Record, find_for
from pipeline.errors import RequestError
from pipeline.graph.nodes import MODEL, Graph, Node
from pipeline.search.trial_nodes import TrialNodes
from pipeline.search.values import Values, identity, lies_within
from pipeline.storage import Storage
from stages.training.selection.learning_rates import selected_epoch

SEARCHES = ".searches"
Status = Literal["done", "failed", "open"]


@dataclass(frozen=True)
class Trial:
    """A proposal and its training. ``number`` counts from 1 over all trials of a method and student."""

    number: int
    values: Values
    node: Node


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial; ``open``: it has not been trained to the end. ``score`` (x 100) and ``loss`` are those of
    the selected ``epoch`` on the held-out slice; ``seconds`` is the training time, ``artifact`` the model's directory
    or URL, ``problem`` why it failed. Values are None where there are none."""

    trial: Trial
    status: Status
    score: float | None = None
    loss: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    artifact: str | None = None
    problem: str | None = None


def trials_folder(nodes: TrialNodes, recipe: str) -> str:
    """The folder of a storage with the proposals for the searched method and student of a recipe of this name."""
    search = nodes.searched.search
    return f"{SEARCHES}/{recipe}/{search.task}/{search.method}/{search.student}"


def known_trials(nodes: TrialNodes, recipe: str, storage: Storage) -> list[Trial]:
    """The trials that belong to the present search, by number. Raises OSError."""
    folder = trials_folder(nodes, recipe)
    names = [name for name in storage.entries(folder) if name.endswith(".json")]
    texts = storage.read_many([f"{folder}/{name}" for name in names])
    found: dict[str, Trial] = {}
    for name in names:
        trial = _known(nodes, name, texts.get(f"{folder}/{name}", ""))
        if trial is not None:
            found.setdefault(identity(trial.values), trial)
    return sorted(found.values(), key=lambda trial: trial.number)


def _known(nodes: TrialNodes, name: str, text: str) -> Trial | None:
    """The trial in a document; None where it is damaged, of another search, or of an earlier state of the recipe."""
    with suppress(ValueError, TypeError, KeyError):
        number, document = int(name.removesuffix(".json")), json.loads(text)
        if lies_within(nodes.searched.search, document["values"]):
            with suppress(RequestError):
                node = nodes.node(document["values"])
                if node.key == document["key"]:
                    return Trial(number, document["values"], nodes.named(node, number))
    return None


def trials_graph(nodes: TrialNodes, recipe: str, storage: Storage) -> Graph:
    """The trials of the present search, with all that they need. Raises OSError."""
    return Graph.of([trial.node for trial in known_trials(nodes, recipe, storage)])


def numbered_trials(nodes: TrialNodes, proposals: Sequence[Values], first: int) -> list[Trial]:
    """Trials with these values, numbered from ``first``. Raises RequestError for one that the recipe does not take."""
    return [
        Trial(number, values, nodes.named(nodes.node(values), number)) for number, values in enumerate(proposals, first)
    ]


def next_number(nodes: TrialNodes, recipe: str, storage: Storage) -> int:
    """One more than the highest number of a trial of this method and student, also of earlier searches."""
    names = (name.removesuffix(".json") for name in storage.entries(trials_folder(nodes, recipe)))
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def note_trials(nodes: TrialNodes, recipe: str, storage: Storage, trials: Sequence[Trial]) -> None:
    """Write the proposals down. Raises RequestError where another search of this method and student has just done so,
    and OSError."""
    for trial in trials:
        name = f"{trials_folder(nodes, recipe)}/{trial.number:05}.json"
        text = json.dumps({"values": dict(trial.values), "key": trial.node.key}) + "\n"
        if not storage.create(name, text):
            raise RequestError(
                f"search: another search of {nodes.searched.search.method} is running on {storage}; "
                "wait for its end, or stop it, and try again"
            )


# --- results --------------------------------------------------------------------------------------


def result_of(trial: Trial, storage: Storage) -> TrialResult:
    """What became of a trial, as the storage has it now. Raises OSError."""
    record = find_for(storage, trial.node)
    if record is not None:
        return _finished(trial, record, storage)
    if has_failed(storage, trial.node.key):
        return TrialResult(trial, "failed", problem=_problem(storage, trial.node.key))
    return TrialResult(trial, "open")


def _finished(trial: Trial, record: Record, storage: Storage) -> TrialResult:
    try:
        number, score, loss = selected_epoch(json.loads(storage.read(f"{record.folder}/history.json") or ""))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        return TrialResult(trial, "failed", problem=f"its history.json cannot be read ({error})")
    seconds = record.facts.get("train_seconds")
    return TrialResult(
        trial,
        "done",
        score,
        loss,
        number,
        None if seconds is None else float(seconds),
        storage.where(f"{record.folder}/{MODEL}"),
    )


def _problem(storage: Storage, key: str) -> str:
    with suppress(OSError):
        return (storage.read(note_name(key)) or "").strip()
    return ""


def goodness(result: TrialResult, select_by: str) -> float | None:
    """How good a trial is, higher being better, by the rule that selects epochs: the score, or the negative of the
    loss. None for a trial without a finite one."""
    value = result.score if select_by == "metric" else None if result.loss is None else -result.loss
    return value if value is not None and math.isfinite(value) else None


def ranked(results: Sequence[TrialResult], select_by: str) -> list[TrialResult]:
    """The results, the best first, then those without a score. Of equal scores the lower loss is better, of equal
    losses the higher score; then the earlier trial."""

    def rank(result: TrialResult) -> tuple[float, float, int]:
        own = goodness(result, select_by)
        other = goodness(result, "likelihood" if select_by == "metric" else "metric")
        return (math.inf if own is None else -own, math.inf if other is None else -other, result.trial.number)

    return sorted(results, key=rank)
