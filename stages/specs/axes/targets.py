"""The axis ``targets``: what a student is trained to predict. Needs the standard library and pydantic only."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from stages.specs.axes.kinds import TaskKind
from stages.specs.axes.terms import LabelTerm, SmoothedLabelTerm, TeacherTerm, Term, VirtualTerm
from stages.specs.base import Frozen


class Hard(Frozen):
    """Only the label: no KD."""

    kind: Literal["hard"] = "hard"

    def terms(self, _teacher: TeacherTerm, _kind: TaskKind) -> tuple[Term, ...]:
        """The terms on logits and labels, of which ``teacher`` is the term on a teacher's logits; the labels have the
        rest of its weight, up to 1."""
        return (LabelTerm(1.0),)


class Smoothed(Frozen):
    """Label smoothing: q' = (1 - epsilon) q + epsilon u, with u uniform unless given."""

    kind: Literal["smoothed"] = "smoothed"
    epsilon: float = Field(0.1, gt=0.0, lt=1.0)
    distribution: tuple[float, ...] | None = None

    def terms(self, _teacher: TeacherTerm, _kind: TaskKind) -> tuple[Term, ...]:
        """See ``Hard.terms``."""
        return (SmoothedLabelTerm(1.0, self.epsilon, self.distribution),)


class Virtual(Frozen):
    """A virtual teacher, without a model: the label has probability `correct`, and the other classes share the rest
    equally."""

    kind: Literal["virtual"] = "virtual"
    correct: float = Field(0.99, gt=0.0, lt=1.0)

    def terms(self, teacher: TeacherTerm, _kind: TaskKind) -> tuple[Term, ...]:
        """See ``Hard.terms``."""
        return (LabelTerm(1 - teacher.weight), VirtualTerm(teacher.weight, teacher, self.correct))


class TeacherTargets(Frozen):
    """The teachers' logits, read from their stores. For several teachers it is their mean, weighted by `shares` if
    given (one for each teacher, with sum 1). With `calibrated`, the logits of each teacher are first divided by the
    temperature at which its probabilities fit the labels of the held-out rows best; a regression has none."""

    kind: Literal["teacher"] = "teacher"
    shares: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None
    calibrated: bool = False

    def terms(self, teacher: TeacherTerm, kind: TaskKind) -> tuple[Term, ...]:
        """See ``Hard.terms``. A task without classes has no softmax: its kind gives another term in the place of
        ``teacher``."""
        return (LabelTerm(1 - teacher.weight), kind.teacher_term(teacher))


Targets = Annotated[Hard | Smoothed | Virtual | TeacherTargets, Field(discriminator="kind")]


def sum_to_one(shares: Sequence[float]) -> bool:
    """Whether the shares sum to 1, up to the rounding of decimal digits in a recipe."""
    return math.isclose(sum(shares), 1, rel_tol=0.0, abs_tol=1e-6)


def shares_or_equal(shares: tuple[float, ...] | None, count: int) -> tuple[float, ...]:
    """``shares`` if given, otherwise ``count`` equal shares."""
    return (1 / count,) * count if shares is None else shares
