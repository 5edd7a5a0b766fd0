"""The axes of a method: targets x training x data x structure. A method is a point on them.

The teachers are not an axis but edges of the graph: one model, or several whose logits are averaged or followed one
after the other.
Needs the standard library and pydantic only.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.specs.base import Frozen
from stages.specs.layers import NoLayers, Outputs, Relational, Structure

# --- targets ------------------------------------------------------------------------------------


class Hard(Frozen):
    """Only the label: no KD."""

    kind: Literal["hard"] = "hard"


class Smoothed(Frozen):
    """Label smoothing: q' = (1 - epsilon) q + epsilon u, with u uniform unless given."""

    kind: Literal["smoothed"] = "smoothed"
    epsilon: float = Field(0.1, gt=0.0, lt=1.0)
    distribution: tuple[float, ...] | None = None


class Virtual(Frozen):
    """A virtual teacher, without a model: the label has probability `correct`, and the other classes share the rest
    equally."""

    kind: Literal["virtual"] = "virtual"
    correct: float = Field(0.99, gt=0.0, lt=1.0)


class TeacherTargets(Frozen):
    """The teachers' logits, read from their stores. For several teachers it is their mean, weighted by `shares` if
    given (one for each teacher, with sum 1). With `calibrated`, the logits of each teacher are first divided by the
    temperature at which its probabilities fit the labels of the held-out rows best; a regression has none."""

    kind: Literal["teacher"] = "teacher"
    shares: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None
    calibrated: bool = False


Targets = Annotated[Hard | Smoothed | Virtual | TeacherTargets, Field(discriminator="kind")]

# --- training -----------------------------------------------------------------------------------


class OnePhase(Frozen):
    """(1 - teacher_weight) CE + teacher_weight tau^2 KL(T || S); without a teacher, CE alone. `reduction` is over
    classes: `mean` is the scale of the papers whose code divides KL by their number."""

    kind: Literal["one-phase"] = "one-phase"
    temperature: float = Field(2.0, gt=0.0)
    teacher_weight: float = Field(0.5, ge=0.0, le=1.0)
    reduction: Literal["sum", "mean"] = "sum"


class Annealing(Frozen):
    """Phase 1: MSE(z_S, Phi(T) z_T), T from max_temperature to 1 by epoch, and the layers, if any are matched;
    phase 2: CE alone."""

    kind: Literal["annealing"] = "annealing"
    max_temperature: int = Field(7, ge=1)
    first_phase: float = Field(0.7, gt=0.0, lt=1.0)


class Continuation(Frozen):
    """psi CE + (1 - psi) max(0, MSE(z_S, Phi(T) z_T) - margin Phi(T)), T from max_temperature to 1 over all epochs.
    psi rises to `label_weight` over the share `together` of the epochs, and is 1 after it: the layers, if any are
    matched, follow the second term's weight."""

    kind: Literal["continuation"] = "continuation"
    max_temperature: int = Field(10, ge=1)
    margin: float = Field(0.0, ge=0.0)
    together: float = Field(0.667, gt=0.0, le=1.0)
    label_weight: float = Field(0.5, ge=0.0, le=1.0)


class Progressive(Frozen):
    """Phase 1: MSE(z_S, z_T) to several teachers one after the other, in equal parts of the phase, and the layers of
    the same teacher, if any are matched; phase 2: CE alone."""

    kind: Literal["progressive"] = "progressive"
    first_phase: float = Field(0.7, gt=0.0, lt=1.0)


TwoPhases = Annealing | Progressive
Training = Annotated[OnePhase | Annealing | Continuation | Progressive, Field(discriminator="kind")]

# --- data ---------------------------------------------------------------------------------------


class Original(Frozen):
    """The task's own rows, as they are."""

    kind: Literal["original"] = "original"


class WithCandidates(Frozen):
    """The fields of all kinds that use candidates. Candidates have no label: their loss is the term that the training
    has for the teacher's logits, averaged over a row's candidates, with `weight` times the weight of that term for the
    row itself: with n candidates in a step, `weight: n` makes each weigh as much as a row. The first `warmup_epochs`
    epochs use no candidates."""

    k: int = Field(8, ge=1)
    weight: float = Field(1.0, gt=0.0)
    warmup_epochs: int = Field(0, ge=0)


class Neighbours(WithCandidates):
    """Each row is trained with all of its `k` candidates, or with `draw` of them, which are drawn at random anew in
    each epoch, without replacement."""

    kind: Literal["knn"] = "knn"
    draw: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _some_are_not_drawn(self) -> "Neighbours":
        if self.draw is not None and self.draw >= self.k:
            raise ValueError(f"draw: {self.draw} of k: {self.k} draws them all; draw fewer, or leave draw out")
        return self

    @property
    def trained_on(self) -> int:
        """The number of candidates that each row is trained with, if it has so many."""
        return self.k if self.draw is None else self.draw


class Minimax(WithCandidates):
    """Each row is trained with the `keep` of its `k` candidates on which student and teacher differ most, measured by
    the loss term of candidates itself. The current student scores them in each step (`every: step`), or all of them at
    the start of every n-th epoch (`every: n`)."""

    kind: Literal["minimax-knn"] = "minimax-knn"
    keep: int = Field(4, ge=1)
    every: Literal["step"] | Annotated[int, Field(ge=1)] = "step"

    @model_validator(mode="after")
    def _some_are_left_out(self) -> "Minimax":
        if self.keep >= self.k:
            raise ValueError(f"keep: {self.keep} of k: {self.k} leaves none out; keep fewer, or use kind: knn")
        return self


Data = Annotated[Original | Neighbours | Minimax, Field(discriminator="kind")]


# --- the point ----------------------------------------------------------------------------------


class Method(Frozen):
    """A point on the axes targets x training x data x structure."""

    targets: Targets = Hard()
    training: Training = OnePhase()
    data: Data = Original()
    structure: Structure = NoLayers()

    @property
    def needs_logits(self) -> bool:
        """Whether a teacher's logits are targets."""
        return isinstance(self.targets, TeacherTargets)

    @property
    def needs_calibration(self) -> bool:
        """Whether the teachers' logits are divided by their calibrated temperatures."""
        return isinstance(self.targets, TeacherTargets) and self.targets.calibrated

    @property
    def needs_layers(self) -> bool:
        """Whether the pooled states of a teacher's layers are matched."""
        return not isinstance(self.structure, NoLayers | Outputs)

    @property
    def needs_probes(self) -> bool:
        """Whether the logits of classifiers on a teacher's layers are matched."""
        return isinstance(self.structure, Outputs)

    @property
    def needs_teacher(self) -> bool:
        """Whether any output of a teacher is read."""
        return self.needs_logits or self.needs_layers or self.needs_probes

    @property
    def needs_candidates(self) -> bool:
        """Whether candidates are used beside the task's own rows."""
        return isinstance(self.data, WithCandidates)

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the loss compares the rows of a batch with each other."""
        return isinstance(self.structure, Relational)

    @model_validator(mode="after")
    def _schedules_of_logits_need_a_teacher(self) -> "Method":
        if not isinstance(self.training, OnePhase) and not isinstance(self.targets, TeacherTargets):
            raise ValueError(
                f"training: {self.training.kind} follows a teacher's logits, targets is {self.targets.kind}; "
                "use targets: teacher"
            )
        return self

    @model_validator(mode="after")
    def _candidates_follow_a_teacher(self) -> "Method":
        if isinstance(self.data, WithCandidates) and not isinstance(self.targets, TeacherTargets):
            raise ValueError(
                f"data: candidates have no label and follow a teacher's logits, targets is {self.targets.kind}; "
                "use targets: teacher"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_a_mean(self) -> "Method":
        shares = self.targets.shares if isinstance(self.targets, TeacherTargets) else None
        if shares is not None and isinstance(self.training, Progressive):
            raise ValueError("targets: shares are of a mean, and progressive follows one teacher at a time; leave out")
        if shares is not None and not sum_to_one(shares):
            raise ValueError(f"targets: shares {list(shares)} sum to {sum(shares):g}; let them sum to 1")
        return self


def without_idle_settings(method: Method, regression: bool) -> Method:
    """``method`` with fields that have no effect set to their defaults, so that equal trainings have equal keys: equal
    shares; and of a regression, which has no softmax, the calibration of teachers, temperature and reduction."""
    changes: dict[str, object] = {}
    targets, training = method.targets, method.training
    if isinstance(targets, TeacherTargets):
        equal = targets.shares is not None and len(set(targets.shares)) == 1
        changes["targets"] = TeacherTargets(
            shares=None if equal else targets.shares, calibrated=targets.calibrated and not regression
        )
    if regression and isinstance(training, OnePhase):
        changes["training"] = OnePhase(teacher_weight=training.teacher_weight)
    return method.model_copy(update=changes)


def check_teachers(method: Method, count: int) -> None:
    """Raise ValueError if ``method`` cannot learn from ``count`` teachers."""
    if isinstance(method.training, Progressive) and count < 2:
        raise ValueError(
            "training: progressive follows several teachers in turn, and there is one; name more, such as the "
            "teacher's epochs (taught_by: teacher:all)"
        )
    shares = method.targets.shares if isinstance(method.targets, TeacherTargets) else None
    if shares is not None and len(shares) != count:
        raise ValueError(f"targets: shares has {len(shares)} for {count} teachers; give one each")
    if count > 1 and not method.needs_logits:
        raise ValueError(f"taught_by: {count} teachers, but only their logits can be averaged; let one teach")
    if count > 1 and method.needs_layers and not isinstance(method.training, Progressive):
        raise ValueError(f"structure: the layers of which of {count} teachers? Let one teach, or structure: none")
    if count > 1 and method.needs_probes:
        raise ValueError(f"structure: outputs follows the layers of one teacher, not of {count}; let one teach")


def sum_to_one(shares: Sequence[float]) -> bool:
    """Whether the shares sum to 1, up to the rounding of decimal digits in a recipe."""
    return math.isclose(sum(shares), 1, rel_tol=0.0, abs_tol=1e-6)


def shares_or_equal(shares: tuple[float, ...] | None, count: int) -> tuple[float, ...]:
    """``shares`` if given, otherwise ``count`` equal shares."""
    return (1 / count,) * count if shares is None else shares
