"""Which candidates a training with minimax chose: how often those of each rank, and how much more student and teacher
differ on them than on all."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.page.trainings import RecordedTraining, by_group
from stages.specs.axes.data import Minimax


@dataclass(frozen=True, slots=True)
class EpochChoice:
    """The choice of an epoch: of what was used, the share of the candidates of each rank (0 to 1), the nearest first;
    the mean divergence of student and teacher on them, and on all candidates that were scored (None where none
    were)."""

    epoch: int
    by_rank: tuple[float, ...]
    divergence: float | None
    divergence_of_all: float | None

    @property
    def ratio(self) -> float | None:
        """The divergence of what was chosen over that of all."""
        return self.divergence / self.divergence_of_all if self.divergence and self.divergence_of_all else None


@dataclass(frozen=True, slots=True)
class CandidateChoice:
    """What minimax chose for a method and student, over ``seeds`` seeds: ``keep`` of ``k`` candidates of each row."""

    task: str
    method: str
    student: str
    seeds: int
    k: int
    keep: int
    used: int
    epochs: tuple[EpochChoice, ...]


def candidate_choices(trainings: Sequence[RecordedTraining]) -> tuple[CandidateChoice, ...]:
    """What was chosen in each task by each method with minimax, in the epochs that used candidates."""
    found = []
    for (task, method, student), group in by_group(trainings).items():
        data = group[0].spec.method.data
        if isinstance(data, Minimax):
            longest = max(len(one.epochs) for one in group)
            entries = [
                [one.epochs[place]["candidates"] for one in group if "candidates" in _epoch(one, place)]
                for place in range(longest)
            ]
            used = sum(int(entry["used"]) for of_epoch in entries for entry in of_epoch)
            epochs = tuple(_choice(place + 1, of_epoch) for place, of_epoch in enumerate(entries) if of_epoch)
            if used:
                found.append(CandidateChoice(task, method, student, len(group), data.k, data.keep, used, epochs))
    return tuple(found)


def _epoch(training: RecordedTraining, place: int) -> Mapping[str, Any]:
    return training.epochs[place] if place < len(training.epochs) else {}


def _choice(epoch: int, entries: Sequence[Mapping[str, Any]]) -> EpochChoice:
    counts = [sum(times) for times in zip(*(entry["by_rank"] for entry in entries), strict=True)]
    total = sum(counts)
    return EpochChoice(
        epoch,
        tuple(count / total if total else 0.0 for count in counts),
        _mean([entry["mean_divergence"] for entry in entries]),
        _mean([entry["mean_divergence_of_all"] for entry in entries]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return statistics.fmean(known) if known else None
