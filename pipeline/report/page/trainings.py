"""The trainings behind the rows of a report, with their histories."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts.record import Record
from pipeline.graph.nodes import MODEL, Edge, Node, ReportedModel
from pipeline.report.rows import Results
from stages.specs.student import DistilSpec

HISTORY = "history.json"


@dataclass(frozen=True)
class RecordedTraining:
    """A finished training: the model that it made, its node and record, and the ``epochs`` of its history.json."""

    task: str
    model: ReportedModel
    node: Node
    record: Record
    epochs: Sequence[Mapping[str, Any]]

    @property
    def spec(self) -> DistilSpec:
        """Its settings, as the recipe has them."""
        assert isinstance(self.node.spec, DistilSpec)
        return self.node.spec


Group = tuple[str, str, str]
"""Task, method and student: trainings that differ in their seed alone."""


def read_trainings(results: Results) -> list[RecordedTraining]:
    """The finished trainings of the models that a report lists. A history that cannot be read is left out."""
    found = list(_trainings(results))
    texts = results.storage.read_many(list(dict.fromkeys(f"{record.folder}/{HISTORY}" for *_, record in found)))
    trainings = []
    for model, node, record in found:
        try:
            epochs = json.loads(texts.get(f"{record.folder}/{HISTORY}", "{}"))["epochs"]
        except (ValueError, KeyError):
            continue
        trainings.append(RecordedTraining(node.task, model, node, record, epochs))
    return trainings


def _trainings(results: Results) -> Iterator[tuple[ReportedModel, Node, Record]]:
    for evaluation in results.evaluations:
        given = evaluation.inputs.get("model")
        if isinstance(given, Edge) and given.part == MODEL and isinstance(given.source.spec, DistilSpec):
            record = results.records[given.source.key]
            if record is not None and evaluation.subject is not None:
                yield evaluation.subject, given.source, record


def by_group(trainings: Sequence[RecordedTraining]) -> dict[Group, list[RecordedTraining]]:
    """The trainings of each task, method and student, in the order of the report."""
    found: dict[Group, list[RecordedTraining]] = {}
    for one in trainings:
        found.setdefault((one.task, one.model.method, one.model.student), []).append(one)
    return found
