"""The terms of a loss. A method is resolved to the terms of each epoch; the loss of a row is their weighted sum.

A term is an immutable value with a weight. It says what it needs of a teacher, and gives one value a row. Adding an
objective is adding a term here, or a loss that a term takes, and letting an axis give it.

Shapes: B rows, C classes (1 for a regression). Where rows have entries with labels of their own, W of them in the
longest row, logits are [B, W, C], labels [B, W], and a term on them gives a value for each entry; the kind of the task
makes them one value a row (``TaskKind.row_values``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from stages.specs.axes.losses import (
    excess_over_margin,
    smoothed_cross_entropy,
    soft_cross_entropy,
    squared_error,
    virtual_logits,
)
from stages.specs.layer_map import LayerGroup, teacher_layers

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["sum", "mean"]
"""Over classes."""


class Compared(Protocol):
    """What terms compare, for the B rows of a batch."""

    @property
    def logits(self) -> "Tensor":
        """[B, C]: the student's logits in float32."""
        ...

    @property
    def labels(self) -> "Tensor":
        """[B]: class numbers, or the values of a regression."""
        ...

    @property
    def label_loss(self) -> "Tensor":
        """[B]: the task's own loss of each row."""
        ...

    @property
    def teacher_logits(self) -> "Tensor":
        """[B, C]: the logits of the teacher, or the mean of several."""
        ...

    def layer_error(self, term: "LayerTerm", /) -> "Tensor":
        """[B]: the distance between the layers of the student and of the teacher that ``term`` names."""
        ...


@dataclass(frozen=True)
class Term(ABC):
    """A part of the loss. ``name`` is its name in curves and checkpoints, of which an epoch has each once."""

    weight: float

    name: ClassVar[str]

    @abstractmethod
    def value(self, rows: Compared, /) -> "Tensor":
        """[B]: the value of each row, or [B, W] of each entry, before it is multiplied by ``weight``."""

    @property
    def schedule(self) -> dict[str, float]:
        """Settings that may change from epoch to epoch, by the names that curves give them."""
        return {}


@dataclass(frozen=True)
class LabelTerm(Term):
    """The task's own loss: cross-entropy, or the squared error of a regression."""

    name: ClassVar[str] = "hard"

    def value(self, rows: Compared) -> "Tensor":
        return rows.label_loss


@dataclass(frozen=True)
class SmoothedLabelTerm(Term):
    """Cross-entropy to smoothed labels. ``distribution`` is u by class, None for the uniform one."""

    epsilon: float
    distribution: tuple[float, ...] | None = None

    name: ClassVar[str] = "smoothed"

    def value(self, rows: Compared) -> "Tensor":
        classes = rows.logits.shape[-1]
        smoothing_C = _on_device(self.distribution or (1.0 / classes,) * classes, rows.logits.device)
        return smoothed_cross_entropy(rows.logits, rows.labels, self.epsilon, smoothing_C)


@dataclass(frozen=True)
class TeacherTerm(Term):
    """A distance between the logits of student and teacher. Candidates, which have no label, are trained by it, and
    minimax picks them by it."""

    @abstractmethod
    def distance(self, student_BC: "Tensor", teacher_BC: "Tensor") -> "Tensor":
        """[B]: the distance of each row, before it is multiplied by ``weight``."""

    def value(self, rows: Compared) -> "Tensor":
        return self.distance(rows.logits, rows.teacher_logits)


@dataclass(frozen=True)
class SoftTerm(TeacherTerm):
    """tau^2 KL(T || S) at a temperature, summed over classes, or divided by their number."""

    temperature: float
    reduction: Reduction = "sum"

    name: ClassVar[str] = "soft"

    def distance(self, student_BC: "Tensor", teacher_BC: "Tensor") -> "Tensor":
        distance_B = soft_cross_entropy(student_BC, teacher_BC, self.temperature)
        return distance_B / student_BC.shape[-1] if self.reduction == "mean" else distance_B

    @property
    def schedule(self) -> dict[str, float]:
        return {"temperature": self.temperature}


@dataclass(frozen=True)
class SquaredTerm(TeacherTerm):
    """The squared error between z_S and ``scale`` z_T, mean over classes, less ``margin`` where it is greater."""

    scale: float = 1.0
    margin: float = 0.0

    name: ClassVar[str] = "match"

    def distance(self, student_BC: "Tensor", teacher_BC: "Tensor") -> "Tensor":
        distance_B = squared_error(student_BC, self.scale * teacher_BC)
        return excess_over_margin(distance_B, self.margin) if self.margin else distance_B

    @property
    def schedule(self) -> dict[str, float]:
        return {"scale": self.scale}


Distance = Literal["kl", "squared"]
"""The name of a distance between the logits of student and teacher."""

DISTANCES: Mapping[Distance, Callable[[float, float, Reduction], TeacherTerm]] = {
    "kl": SoftTerm,
    "squared": lambda weight, _temperature, _reduction: SquaredTerm(weight),
}
"""Name -> the term with a weight, made from the weight, the temperature and the reduction over classes."""


@dataclass(frozen=True)
class VirtualTerm(Term):
    """The distance ``by`` to a teacher without a model, which gives the label the probability ``correct``."""

    by: TeacherTerm
    correct: float

    name: ClassVar[str] = "soft"

    def value(self, rows: Compared) -> "Tensor":
        teacher_BC = virtual_logits(rows.labels, rows.logits.shape[-1], self.correct)
        return self.by.distance(rows.logits, teacher_BC)

    @property
    def schedule(self) -> dict[str, float]:
        return self.by.schedule


@dataclass(frozen=True)
class LayerTerm(Term):
    """The distance between layers of student and teacher that the axis ``structure`` defines. ``groups`` are those of
    the epoch, and ``temperature`` is that of attention in it."""

    groups: tuple[LayerGroup, ...]
    temperature: float = 1.0

    name: ClassVar[str] = "layers"

    def value(self, rows: Compared) -> "Tensor":
        return rows.layer_error(self)


Terms = tuple[Term, ...]
"""The terms of an epoch whose weight is not 0, in the order in which they are added."""


def teacher_term(terms: Iterable[Term]) -> TeacherTerm | None:
    """The term on the teacher's logits, of which an epoch has one at most."""
    return next((term for term in terms if isinstance(term, TeacherTerm)), None)


def layer_term(terms: Iterable[Term]) -> LayerTerm | None:
    """The term on layers, of which an epoch has one at most."""
    return next((term for term in terms if isinstance(term, LayerTerm)), None)


def followed_layers(terms: Iterable[Term]) -> tuple[int, ...]:
    """The teacher's layers that the terms need, in rising order."""
    term = layer_term(terms)
    return teacher_layers(term.groups) if term is not None else ()


def weighted_sum(terms: Sequence[Term], values: Sequence["Tensor"]) -> "Tensor":
    """[B]: the sum of the ``values`` [B] of the terms, each multiplied by the weight of its term."""
    first, *others = (term.weight * value_B for term, value_B in zip(terms, values, strict=True))
    total: Tensor = first
    for weighted_B in others:
        total = total + weighted_B
    return total


@cache
def _on_device(distribution: tuple[float, ...], device: Any) -> "Tensor":
    """[C]: the distribution on a device. Cached, because a copy to the device in each step would make the step wait for
    it."""
    import torch  # a program that only plans has no need of it

    return torch.tensor(distribution).to(device)
