"""The scores of a recipe's models as rows: one for each (task, method, student, seed, split, metric)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.artifacts.failure import has_failed
from pipeline.artifacts.latencies import MeasuredLatency, headline, read_latencies
from pipeline.artifacts.record import Record, find_for
from pipeline.graph.nodes import MODEL, Edge, ExternalInput, Graph, Node, SplitSizes
from pipeline.plan.quantities import sizes_of_splits
from pipeline.recipe import TEACHER
from pipeline.storage import Storage
from stages.models.heads import loads_with
from stages.models.sentences import SENTENCE_CLASS
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import SimilaritySpec
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import DistilSpec
from stages.specs.tasks import Task
from stages.specs.teacher import ProbeSpec, TeachSpec


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One score. Scores are x 100; ``seconds`` is the training time; ``artifact`` is the model's directory or URL, and
    ``loads_with`` the Python function that loads it;
    ``dev``: the split is one of the task's dev splits. ``candidates`` is the number of candidate texts (beside the
    task's own) that the training used over all epochs, and ``augmented_rows`` that of all texts beside the task's own,
    candidates or generated. ``teacher_rows`` is the number of rows that its teachers have read for it: those in the
    stores that it reads, which it shares with other students, and those that they read in the training itself.
    ``quarantined`` is the number of rows of train that it left out,
    because a store that it reads has set them aside. Of the ``train_rows`` of the task's source, models are trained on
    ``trained_rows``; ``held_out_rows`` select the epoch, ``cut_off_rows`` became the dev split. ``learning_rate`` is
    that of the training at its peak, for a method with ``rates`` the one that its sweep chose. Values are None where
    they are unknown.

    ``latency_ms`` is what the evaluation took for a row, in the median. ``bytes`` to ``measured_at`` are those of the
    measurement by ``stillhouse latency`` that stands for the model (``headline``), and ``measurements`` are all of the
    model and of its exports.

    ``seed`` is None in a row of the task ``mean``, which compares over tasks. ``delta`` is the mean score minus that of
    the method ``baseline`` over ``seeds_compared`` seeds, with a 95 % interval from ``low`` to ``high``; ``p`` is
    adjusted for the number of methods, ``p_raw`` is not; |delta| is less than ``within`` at 95 %; ``gap_closed`` is the
    share in percent of the way from the baseline's score to the teacher's."""

    task: str
    method: str
    student: str
    seed: int | None
    split: str
    metric: str
    primary: bool
    score: float | None
    last_epoch_score: float | None
    teacher_score: float | None
    student_parameters: int | None
    teacher_parameters: int | None
    seconds: float | None
    status: str
    artifact: str | None
    best_epoch: int | None
    latency_ms: float | None
    key: str
    dev: bool
    candidates: int | None = None
    augmented_rows: int | None = None
    teacher_rows: int | None = None
    quarantined: int | None = None
    train_rows: int | None = None
    trained_rows: int | None = None
    held_out_rows: int | None = None
    cut_off_rows: int | None = None
    loads_with: str | None = None
    learning_rate: float | None = None
    # Measured by ``stillhouse latency``: all of these are None where it was not.
    bytes: int | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    rows_per_second: float | None = None
    speedup: float | None = None
    measured_runtime: str | None = None
    measured_batch: int | None = None
    measured_threads: int | None = None
    measured_on: str | None = None
    measured_at: str | None = None
    measurements: tuple[MeasuredLatency, ...] = ()
    # Compared with the method ``baseline`` (docs/comparing.md): all of these are None where it was not.
    baseline: str | None = None
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_raw: float | None = None
    within: float | None = None
    gap_closed: float | None = None
    seeds_compared: int | None = None
    tasks_compared: int | None = None


def flat(row: ReportRow) -> dict[str, Any]:
    """The fields of a row for a table: without ``measurements``, of which there may be several."""
    return {name: value for name, value in asdict(row).items() if name != "measurements"}


COMPARED = (
    "baseline",
    "delta",
    "low",
    "high",
    "p",
    "p_raw",
    "within",
    "gap_closed",
    "seeds_compared",
    "tasks_compared",
)
"""The fields of a ``ReportRow`` that only a comparison with a baseline fills."""


@dataclass(frozen=True, slots=True)
class Results:
    """What has been built of a graph: the storage at one moment, and the record of each node by its key, None where it
    is not built."""

    graph: Graph
    storage: Storage
    records: Mapping[str, Record | None]

    @property
    def evaluations(self) -> list[Node]:
        """The nodes whose models a report lists."""
        return [node for node in self.graph.wanted if node.role == "evaluate" and node.subject is not None]


def read_results(graph: Graph, storage: Storage) -> Results:
    """What the storage has of a graph now."""
    storage = storage.snapshot()
    return Results(graph, storage, {node.key: find_for(storage, node) for node in graph.nodes})


def report(graph: Graph, storage: Storage) -> list[ReportRow]:
    """The rows of a graph, from what the storage has of it now."""
    return rows_of(read_results(graph, storage))


def rows_of(results: Results) -> list[ReportRow]:
    """The rows of a report. A model without an evaluation is ``failed`` if a node that it needs failed in the last run,
    else ``missing``."""
    storage, records, nodes = results.storage, results.records, results.evaluations
    unbuilt = {key for key, record in records.items() if record is None}
    broken = results.graph.dependants({key for key in unbuilt if has_failed(storage, key)})
    teachers = {node.task: records[node.key] for node in nodes if node.subject and node.subject.method == TEACHER}
    latencies = read_latencies(storage, {node.input_keys["model"] for node in nodes if "model" in node.inputs})
    return [
        replace(row, **_measured(latencies.get(node.input_keys.get("model", ""), ())))
        for node in nodes
        for row in _rows(node, records, teachers.get(node.task), storage, broken)
    ]


def _measured(found: tuple[MeasuredLatency, ...]) -> dict[str, Any]:
    """The fields of a row on the measurements of its model."""
    one = headline(found)
    if one is None:
        return {}
    shared = {name: getattr(one, name) for name in ("bytes", "p50_ms", "p95_ms", "rows_per_second", "speedup")}
    return {
        **shared,
        "measured_runtime": one.runtime,
        "measured_batch": one.batch,
        "measured_threads": one.threads,
        "measured_on": one.processor,
        "measured_at": one.measured,
        "measurements": found,
    }


def _rows(
    node: Node,
    records: Mapping[str, Record | None],
    teacher: Record | None,
    storage: Storage,
    broken: set[str],
) -> list[ReportRow]:
    task, record = task_of(node), records[node.key]
    # An ensemble has no model of its own, so no directory and no training time.
    given = node.inputs.get("model")
    training = given.source if isinstance(given, Edge) else None
    training_record = records[training.key] if training else None
    # The times and scores of a training are those of its final model, not of the model after one of its epochs.
    trained = training_record if isinstance(given, Edge) and given.part == MODEL else None
    status = "done" if record else "failed" if node.key in broken else "missing"
    assert node.subject is not None
    splits = None if isinstance(node.spec, SimilaritySpec) else _splits(node, records)  # of labels, which none learns
    directory = str(given.path) if isinstance(given, ExternalInput) else None
    if training_record and isinstance(given, Edge):
        directory = storage.where(f"{training_record.folder}/{given.part}".rstrip("/"))
    kind = node.model_kind
    loader = (
        None if directory is None or kind is None else loads_with(kind.architecture, kind.head, task.kind.has_entries)
    )
    if directory is not None and isinstance(node.spec, SimilaritySpec):
        loader = SENTENCE_CLASS
    return [
        ReportRow(
            task=node.task,
            method=node.subject.method,
            student=node.subject.student,
            seed=node.subject.seed,
            split=split,
            metric=metric,
            primary=metric == task.primary,
            score=_score(record, "scores", split, metric),
            last_epoch_score=_score(trained, "last_epoch_scores", split, metric),
            teacher_score=_score(teacher, "scores", split, metric),
            student_parameters=_fact(record, "parameters"),
            teacher_parameters=_fact(teacher, "parameters"),
            seconds=_fact(trained, "train_seconds"),
            status=status,
            artifact=directory,
            best_epoch=_fact(trained, "best_epoch"),
            latency_ms=_fact(record, "latency_ms"),
            key=(training or node).key,
            dev=split in task.dev_splits,
            candidates=_fact(trained, "candidates"),
            augmented_rows=_augmented_rows(trained),
            teacher_rows=_teacher_rows(training, trained, records) if training and trained else None,
            quarantined=_fact(trained, "quarantined"),
            train_rows=splits.given if splits else None,
            trained_rows=splits.trained if splits else None,
            held_out_rows=splits.held_out if splits else None,
            cut_off_rows=splits.cut_off if splits else None,
            loads_with=loader,
            learning_rate=learning_rate(training, trained) if training and trained else None,
        )
        for split in splits_of(task, record)
        for metric in task.metrics
    ]


def _augmented_rows(trained: Record | None) -> int | None:
    """The texts beside the task's own that a training used. Trainings of earlier versions name their candidates
    alone."""
    if trained is None:
        return None
    return int(trained.facts.get("augmented_rows", trained.facts.get("candidates", 0)))


def _teacher_rows(training: Node, trained: Record, records: Mapping[str, Record | None]) -> int | None:
    """The rows that the teachers of a training have read; None if a store that it read is not there any more."""
    live, stored = int(trained.facts.get("live_teacher_rows", 0)), _stores_below(training)
    rows = [_fact(records[store.key], "rows") for store in stored]
    return None if None in rows else live + sum(rows)


def _stores_below(training: Node) -> Collection[Node]:
    """The stores of teachers' outputs that a training reads, each once: directly, or through classifiers that were
    fitted on them."""
    probes = [source for source in training.sources if isinstance(source.spec, ProbeSpec)]
    read = [*training.sources, *(source for probe in probes for source in probe.sources)]
    return {node.key: node for node in read if isinstance(node.spec, TeachSpec)}.values()


def learning_rate(training: Node, record: Record) -> float | None:
    """The peak learning rate of a training: the one that its sweep chose, or else that of its spec."""
    chosen = record.facts.get("learning_rate")
    if isinstance(chosen, float):
        return chosen
    match training.spec:
        case DistilSpec(train=train):
            return train.learning_rate
        case PretrainSpec(learning_rate=rate):
            return rate
        case _:
            return None


def _splits(node: Node, records: Mapping[str, Record | None]) -> SplitSizes | None:
    """The rows of the splits of the corpus that a model is scored on; None if it is not built."""
    given = node.inputs["corpus"]
    assert isinstance(given, Edge)
    record = records.get(given.source.key)
    return None if record is None else sizes_of_splits(given.source, {record.key: record})


def task_of(node: Node) -> Task:
    """The task of a node that has a corpus as input."""
    given = node.inputs["corpus"]
    assert isinstance(given, Edge) and isinstance(given.source.spec, CorpusSpec)
    return given.source.spec.task


def splits_of(task: Task, record: Record | None) -> Sequence[str]:
    """The splits that were scored: the dev splits, and test splits with public labels; the dev splits before that."""
    if record is None:
        return task.dev_splits
    scores = record.facts["scores"]
    assert isinstance(scores, dict)
    return list(scores)


def _score(record: Record | None, name: str, split: str, metric: str) -> float | None:
    found = _fact(record, name) or {}
    value = found.get(split, {}).get(metric)
    return None if value is None else float(value)


def _fact(record: Record | None, name: str) -> Any:
    return None if record is None else record.facts.get(name)
