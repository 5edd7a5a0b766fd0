"""Learning curves: the score of each epoch on the rows that select the best one, and the annealing temperature."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.page.trainings import RecordedTraining, by_group
from pipeline.report.rows import task_of
from stages.specs.axes.training import Annealing, Continuation, annealed_scale
from stages.specs.student import DistilSpec


@dataclass(frozen=True, slots=True)
class EpochScore:
    """The scores x 100 after an epoch, over the seeds that reached it: their mean, the lowest and the highest."""

    epoch: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The curve of a method and student over ``seeds`` seeds. ``temperatures`` has the annealing temperature of each
    epoch in which logits are annealed; () for a method that does not anneal."""

    method: str
    student: str
    seeds: int
    epochs: tuple[EpochScore, ...]
    temperatures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """The curves of a task, and what the score is: the selecting metric on the split that selects."""

    task: str
    metric: str
    curves: tuple[LearningCurve, ...]

    @property
    def anneals(self) -> bool:
        """Whether any method of the panel anneals its teacher."""
        return any(curve.temperatures for curve in self.curves)


def curve_panels(trainings: Sequence[RecordedTraining]) -> tuple[CurvePanel, ...]:
    """A panel for each task with trainings."""
    panels: dict[str, list[LearningCurve]] = {}
    metrics: dict[str, str] = {}
    for (task, method, student), group in by_group(trainings).items():
        if any(one.epochs for one in group):
            panels.setdefault(task, []).append(_curve(method, student, group))
            metrics.setdefault(task, _selecting_metric(group[0]))
    return tuple(CurvePanel(task, metrics[task], tuple(curves)) for task, curves in panels.items())


def annealing_temperatures(spec: DistilSpec) -> tuple[float, ...]:
    """The temperature of each epoch of a training, from the maximum down to 1, as long as it anneals; () for a training
    that does not."""
    training, epochs = spec.method.training, spec.train.epochs
    if not isinstance(training, Annealing | Continuation):
        return ()
    length = training.phases(epochs)[0].epochs
    scales = [annealed_scale(epoch, length, training.max_temperature) for epoch in range(length)]
    return tuple(1 + (1 - scale) * training.max_temperature for scale in scales)


def _curve(method: str, student: str, group: Sequence[RecordedTraining]) -> LearningCurve:
    longest = max(len(one.epochs) for one in group)
    epochs = []
    for place in range(longest):
        scores = [float(one.epochs[place]["score"]) for one in group if place < len(one.epochs)]
        epochs.append(EpochScore(place + 1, statistics.fmean(scores), min(scores), max(scores)))
    return LearningCurve(method, student, len(group), tuple(epochs), annealing_temperatures(group[0].spec))


def _selecting_metric(training: RecordedTraining) -> str:
    chosen = training.spec.train.select_metric
    return chosen if chosen is not None else task_of(training.node).primary
