"""How the layers of a student attend to those of its teacher: the weights of ALP-KD, from histories of trainings."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.page.trainings import RecordedTraining, by_group
from stages.specs.layers import Attend


@dataclass(frozen=True, slots=True)
class EpochAttention:
    """The attention of an epoch, mean over rows and seeds: for each student layer its largest weight, and the weights
    of all teacher layers in the order of ``LayerAttention.teacher_layers`` (None for a layer that it does not attend
    to); ``weights`` is () for a training that recorded the largest alone."""

    epoch: int
    largest: tuple[float, ...]
    weights: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """The attention of a method and student over ``seeds`` seeds. Layers are numbered from 1, the first."""

    task: str
    method: str
    student: str
    seeds: int
    student_layers: tuple[int, ...]
    teacher_layers: tuple[int, ...]
    epochs: tuple[EpochAttention, ...]


def layer_attentions(trainings: Sequence[RecordedTraining]) -> tuple[LayerAttention, ...]:
    """The attention in each task of each method whose student attends to layers, in the epochs that recorded it."""
    found = []
    for (task, method, student), group in by_group(trainings).items():
        structure = group[0].spec.method.structure
        if not isinstance(structure, Attend):
            continue
        groups = structure.layer_groups()
        teachers = tuple(sorted({layer for one in groups for layer in one.teacher}))
        epochs = _epochs(group, [one.teacher for one in groups], teachers)
        if epochs:
            students = tuple(one.student for one in groups)
            found.append(LayerAttention(task, method, student, len(group), students, teachers, epochs))
    return tuple(found)


def _epochs(
    group: Sequence[RecordedTraining], attended: Sequence[Sequence[int]], teachers: Sequence[int]
) -> tuple[EpochAttention, ...]:
    """The epochs with attention. ``attended`` has the teacher layers of each student layer."""
    found = []
    for place in range(max(len(one.epochs) for one in group)):
        recorded = [one.epochs[place] for one in group if place < len(one.epochs) and "attention" in one.epochs[place]]
        if not recorded:
            continue
        largest = tuple(map(statistics.fmean, zip(*(epoch["attention"] for epoch in recorded), strict=True)))
        weights = [epoch["attention_weights"] for epoch in recorded if "attention_weights" in epoch]
        rows = []
        for number, layers in enumerate(attended if weights else ()):
            means = map(statistics.fmean, zip(*(one[number] for one in weights), strict=True))
            by_layer = dict(zip(layers, means, strict=True))
            rows.append(tuple(by_layer.get(layer) for layer in teachers))
        found.append(EpochAttention(place + 1, largest, tuple(rows)))
    return tuple(found)
