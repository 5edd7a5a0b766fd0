"""The rows of a report, where every method is compared with one of them, the baseline, on the predictions that were
stored. docs/comparing.md explains what is computed; the statistics are in ``stages/evaluation/comparison.py``."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import RequestError, nearest
from pipeline.graph.nodes import MODEL, Edge, Graph, Node, ReportedModel
from pipeline.recipe import TEACHER
from pipeline.report.means import DEV, HEADLINE, MEAN, MEAN_SPLITS, over_tasks_and_seeds
from pipeline.report.rows import ReportRow, Results, rows_of, splits_of, task_of
from stages.evaluation.comparison import (
    Comparison,
    MeanDifference,
    PairedScores,
    compare,
    difference,
    gap_closed,
    holm,
    mean_of_splits,
    seed_from_bytes,
)
from stages.evaluation.predictions import (
    LabelledPredictions,
    labelled_predictions,
    last_predictions_path,
    predictions_path,
    read_predictions,
)
from stages.evaluation.resampling import Floats, ResampledScores, resampled_scores
from stages.specs.tasks import Metric, Task

PARALLEL_FETCHES = 8
"""Artifacts whose predictions are fetched from a bucket at the same time."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The method with which the others are compared: after the selected epoch, or, with ``last``, after the last."""

    method: str
    last: bool = False


def check_baseline(graph: Graph, method: str) -> None:
    """Raise RequestError unless some task of the graph has models of this method. Tasks that have none are named in
    the lines below the table."""
    known = list(dict.fromkeys(node.subject.method for node in graph.wanted if node.subject is not None))
    if method not in known:
        hint = nearest(method, known)
        names = "" if hint.startswith("known") else f" Known: {', '.join(known)}"
        raise RequestError(f"--baseline: {method} is no method of this recipe; {hint}{names}")


def is_compared(method: str, baseline: Baseline) -> bool:
    """Whether the students of a method are compared: not the baseline itself, and neither the teacher nor further
    models, which are not trained once for each seed."""
    return method not in (baseline.method, TEACHER) and ":" not in method


# --- pairs of scores ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeedPairs:
    """The scores of two methods for S seeds, those of the method and of the baseline x 100 (S,), and their differences
    on resampled rows."""

    seeds: tuple[int, ...]
    scores: Floats
    baseline_scores: Floats
    differences: PairedScores

    def of_seeds(self, seeds: Sequence[int]) -> "SeedPairs":
        """The pairs of these seeds alone."""
        places = [self.seeds.index(seed) for seed in seeds]
        paired = PairedScores(self.differences.observed[places], self.differences.replicates[:, places])
        return SeedPairs(tuple(seeds), self.scores[places], self.baseline_scores[places], paired)


@dataclass(frozen=True, slots=True)
class ComparableScores:
    """Scores of models of one task on the same rows of a split. ``column`` is the place of a model in them."""

    column: Mapping[ReportedModel, int]
    by_metric: Mapping[Metric, ResampledScores]
    random_seed: int

    def pairs(self, metric: Metric, models: Mapping[int, tuple[ReportedModel, ReportedModel]]) -> SeedPairs | None:
        """The scores of pairs of models by seed, where both are known; None where no pair is."""
        seeds = [seed for seed, pair in models.items() if all(model in self.column for model in pair)]
        if not seeds:
            return None
        own, other = ([self.column[models[seed][side]] for seed in seeds] for side in (0, 1))
        observed, replicates = self.by_metric[metric].observed, self.by_metric[metric].replicates
        paired = PairedScores(observed[own] - observed[other], replicates[:, own] - replicates[:, other])
        return SeedPairs(tuple(seeds), observed[own], observed[other], paired)


@dataclass(frozen=True, slots=True)
class TaskModels:
    """The models of a task that are compared, or that others are compared with, and the evaluation of each."""

    task: Task
    evaluations: Mapping[ReportedModel, Node]
    baseline: Baseline

    @property
    def methods(self) -> list[tuple[str, str]]:
        """The labels of the methods that are compared, each with that of a student."""
        compared = [model for model in self.evaluations if is_compared(model.method, self.baseline)]
        return list(dict.fromkeys((model.method, model.student) for model in compared))

    def pairs(self, method: str, student: str) -> dict[int, tuple[ReportedModel, ReportedModel]]:
        """For each seed, the method's student and that of the baseline. A baseline that is a single model, such as the
        teacher, is the same for every student and seed."""
        of_baseline = [model for model in self.evaluations if model.method == self.baseline.method]
        by_seed = {model.seed: model for model in of_baseline if model.student == student}
        own = [model for model in self.evaluations if (model.method, model.student) == (method, student)]
        if not by_seed and len(of_baseline) == 1:
            by_seed = dict.fromkeys((model.seed for model in own), of_baseline[0])
        return {model.seed: (model, by_seed[model.seed]) for model in own if model.seed in by_seed}


def _tasks(results: Results, baseline: Baseline) -> list[TaskModels]:
    found: dict[str, dict[ReportedModel, Node]] = {}
    for node in results.evaluations:
        assert node.subject is not None
        if node.subject.method == baseline.method or is_compared(node.subject.method, baseline):
            found.setdefault(node.task, {})[node.subject] = node
    return [TaskModels(task_of(next(iter(nodes.values()))), nodes, baseline) for nodes in found.values()]


def _comparable(models: TaskModels, folders: Mapping[str, Path], split: str) -> ComparableScores:
    """The scores on a split of all models whose predictions are stored for the rows of the baseline's; none where the
    baseline has none. Raises RequestError for a file that is damaged."""
    locate = last_predictions_path if models.baseline.last else predictions_path
    tables: dict[ReportedModel, LabelledPredictions] = {}
    for model, node in models.evaluations.items():
        path = locate(folders[node.key], split) if node.key in folders else None
        if path is not None and path.exists():
            try:
                tables[model] = labelled_predictions(models.task, read_predictions(path))
            except ValueError as error:
                raise RequestError(str(error)) from error
    first = next((table for model, table in tables.items() if model.method == models.baseline.method), None)
    if first is None or not len(first.rows):
        return ComparableScores({}, {}, 0)
    known = {
        model: found for model, table in tables.items() if (found := table.predictions_for(first.rows)) is not None
    }
    random_seed = seed_from_bytes(models.task.name.encode(), split.encode(), first.rows.tobytes())
    scores = resampled_scores(models.task.metrics, np.stack(list(known.values())), first.labels, random_seed)
    return ComparableScores({model: place for place, model in enumerate(known)}, scores, random_seed)


def _fetched(results: Results, tasks: Sequence[TaskModels], last: bool) -> dict[str, Path]:
    """For each evaluation by its key, the folder on this machine with the predictions of its model: the artifact of the
    evaluation, or for ``last`` that of the training. Without those that have none."""

    def fetch(node: Node) -> Path | None:
        given = node.inputs.get("model")
        if not last:
            record, below = results.records[node.key], "predictions"
        elif isinstance(given, Edge) and given.part == MODEL:
            record, below = results.records[given.source.key], "predictions/last"
        else:
            return None
        files = record.files_below(below) if record else {}
        return results.storage.fetch(record.folder, files) if record and files else None

    nodes = {node.key: node for task in tasks for node in task.evaluations.values()}
    with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        folders = dict(zip(nodes, pool.map(fetch, nodes.values()), strict=True))
    return {key: folder for key, folder in folders.items() if folder is not None}


# --- comparisons ----------------------------------------------------------------------------------

Measured = tuple[str, str, str, str]
"""Task, student, split and metric: methods that have all of these in common are compared with one baseline."""


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """A method compared with the baseline over ``seeds`` seeds, and ``tasks`` tasks in a mean over tasks. ``scores``
    are the mean scores of the method and of the baseline."""

    comparison: Comparison
    scores: tuple[float, float]
    seeds: int
    tasks: int | None = None


def rows_with_comparisons(results: Results, baseline: Baseline) -> list[ReportRow]:
    """The rows of a report with a comparison of each method with the baseline; for several tasks also rows of the task
    ``mean``. Raises RequestError for predictions that are damaged."""
    tasks = _tasks(results, baseline)
    folders = _fetched(results, tasks, baseline.last)
    found: dict[Measured, dict[str, MethodComparison]] = {}
    headlines: dict[tuple[str, str, str], dict[str, SeedPairs]] = {}
    random_seeds: dict[str, int] = {}
    for models in tasks:
        scores = {split: _comparable(models, folders, split) for split in _splits(results, models)}
        random_seeds[models.task.name] = seed_from_bytes(*(str(one.random_seed).encode() for one in scores.values()))
        for measured, method, comparison in _task_comparisons(models, scores):
            found.setdefault(measured, {})[method] = comparison
        for method, student in models.methods:
            for split in MEAN_SPLITS:
                pairs = _headline_pairs(models, scores, method, student, split)
                if pairs is not None:
                    headlines.setdefault((method, student, split), {})[models.task.name] = pairs
    all_tasks = {node.task for node in results.evaluations}
    for (method, student, split), by_task in headlines.items():
        over_tasks = _mean_comparison(by_task, random_seeds) if by_task.keys() == all_tasks else None
        if over_tasks is not None:
            found.setdefault((MEAN, student, split, HEADLINE), {})[method] = over_tasks
    rows = rows_of(results)
    rows += over_tasks_and_seeds(rows)
    return _filled(rows, found, baseline)


def _splits(results: Results, models: TaskModels) -> list[str]:
    """The splits on which any of the models is scored."""
    scored = [splits_of(models.task, results.records[node.key]) for node in models.evaluations.values()]
    return list(dict.fromkeys(split for splits in scored for split in splits))


def _task_comparisons(
    models: TaskModels, scores: Mapping[str, ComparableScores]
) -> Iterator[tuple[Measured, str, MethodComparison]]:
    for split, comparable in scores.items():
        for metric in models.task.metrics:
            for method, student in models.methods:
                pairs = comparable.pairs(metric, models.pairs(method, student))
                if pairs is not None:
                    seed = comparable.random_seed
                    comparison = compare([difference(pairs.differences, seed)], seed)
                    own, other = float(pairs.scores.mean()), float(pairs.baseline_scores.mean())
                    found = MethodComparison(comparison, (own, other), len(pairs.seeds))
                    yield (models.task.name, student, split, metric), method, found


def _headline_pairs(
    models: TaskModels, scores: Mapping[str, ComparableScores], method: str, student: str, mean_split: str
) -> SeedPairs | None:
    """The pairs of the headline metric: the mean over the dev splits, or over the labelled test splits, as
    ``mean_split`` says. None where a split has no pairs, and where there is no such split."""
    models_by_seed = models.pairs(method, student)
    dev = models.task.dev_splits
    splits = dev if mean_split == DEV else [split for split in scores if split not in dev]
    found = [scores[split].pairs(models.task.primary, models_by_seed) if split in scores else None for split in splits]
    known = [pairs for pairs in found if pairs is not None]
    seeds = [seed for seed in models_by_seed if all(seed in pairs.seeds for pairs in known)]
    if not known or len(known) < len(found) or not seeds:
        return None
    same = [pairs.of_seeds(seeds) for pairs in known]
    return SeedPairs(
        tuple(seeds),
        np.mean([pairs.scores for pairs in same], axis=0),
        np.mean([pairs.baseline_scores for pairs in same], axis=0),
        mean_of_splits([pairs.differences for pairs in same]),
    )


def _mean_comparison(by_task: Mapping[str, SeedPairs], random_seeds: Mapping[str, int]) -> MethodComparison | None:
    """The comparison over all tasks of the recipe, by the seeds that all of them have; None for one task, and where
    they have no seed in common."""
    if len(by_task) < 2:
        return None
    first, *rest = by_task.values()
    seeds = [seed for seed in first.seeds if all(seed in pairs.seeds for pairs in rest)]
    if not seeds:
        return None
    same = {task: pairs.of_seeds(seeds) for task, pairs in by_task.items()}
    differences: list[MeanDifference] = [
        difference(pairs.differences, random_seeds[task]) for task, pairs in same.items()
    ]
    comparison = compare(differences, seed_from_bytes(*(str(random_seeds[task]).encode() for task in same)))
    own = float(np.mean([pairs.scores for pairs in same.values()]))
    other = float(np.mean([pairs.baseline_scores for pairs in same.values()]))
    return MethodComparison(comparison, (own, other), len(seeds), len(same))


def _filled(
    rows: Sequence[ReportRow], found: Mapping[Measured, Mapping[str, MethodComparison]], baseline: Baseline
) -> list[ReportRow]:
    """The rows with their comparisons. p-values are adjusted for the methods that are compared on the same score."""
    adjusted = {
        measured: dict(zip(methods, holm([one.comparison.p for one in methods.values()]), strict=True))
        for measured, methods in found.items()
    }
    filled = []
    for row in rows:
        measured = (row.task, row.student, row.split, row.metric)
        one = found.get(measured, {}).get(row.method)
        if one is None:
            filled.append(replace(row, baseline=baseline.method if is_compared(row.method, baseline) else None))
            continue
        comparison, teacher = one.comparison, row.teacher_score
        filled.append(
            replace(
                row,
                baseline=baseline.method,
                delta=comparison.delta,
                low=comparison.low,
                high=comparison.high,
                p=adjusted[measured][row.method],
                p_raw=comparison.p,
                within=comparison.within,
                gap_closed=None if teacher is None else gap_closed(*one.scores, teacher),
                seeds_compared=one.seeds,
                tasks_compared=one.tasks,
            )
        )
    return filled
