"""The axis ``training``: the phases of a training, and the terms of each epoch. Pure arithmetic; needs the standard
library and pydantic only."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.specs.axes.kinds import TaskKind
from stages.specs.axes.targets import Targets
from stages.specs.axes.terms import DISTANCES, Distance, LabelTerm, Reduction, SoftTerm, SquaredTerm, Term
from stages.specs.base import Frozen


@dataclass(frozen=True, slots=True)
class Phase:
    """A number of epochs with one optimizer. ``name`` appears in the history."""

    name: str
    epochs: int


@dataclass(frozen=True, slots=True)
class Position:
    """A point in training: the phase, the epoch within the phase, the step within the epoch; all count from 0."""

    phase: int = 0
    epoch: int = 0
    step: int = 0


class Schedule(Frozen):
    """What all kinds of training answer. In ``epochs``, the length of a phase is given, except to ``phases``."""

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The phases of a training of ``epochs`` epochs."""
        return (Phase("train", epochs),)

    def layer_share(self, _position: Position, _epochs: int) -> float:
        """The factor of the weight of the layers, if any are matched, in the epoch at ``position``."""
        return 1.0

    def followed(self, _epoch: int, _epochs: int, _teachers: int) -> int | None:
        """The number of the only teacher that is followed in this epoch; None where all are, as their mean."""
        return None

    def trains_logits(self, _phase: int) -> bool:
        """Whether the loss of this phase depends on the student's logits. An epoch of a phase in which it does not
        cannot be the best one, and the next phase starts from the last of them."""
        return True


class OnePhase(Schedule):
    """(1 - teacher_weight) CE + teacher_weight tau^2 KL(T || S); without a teacher, CE alone. `reduction` is over
    classes: `mean` is the scale of the papers whose code divides KL by their number. With `distance: squared`, the
    squared error of the logits, mean over classes, stands in the place of tau^2 KL."""

    kind: Literal["one-phase"] = "one-phase"
    temperature: float = Field(2.0, gt=0.0)
    teacher_weight: float = Field(0.5, ge=0.0, le=1.0)
    reduction: Reduction = "sum"
    distance: Distance = "kl"

    def terms(self, targets: Targets, _position: Position, _epochs: int, kind: TaskKind) -> tuple[Term, ...]:
        """The terms on logits and labels in the epoch at ``position``, also those of weight 0. The first is that on the
        labels, if the phase has one."""
        term = DISTANCES[self.distance](self.teacher_weight, self.temperature, self.reduction)
        return targets.terms(term, kind)


class TwoPhases(Schedule):
    """The kinds with a first phase without labels, which has the share ``first_phase`` of the epochs, and a second one,
    of labels alone unless the kind says otherwise. Each has at least one epoch."""

    first_phase: float = Field(0.7, gt=0.0, lt=1.0)

    first_name: ClassVar[str]
    second_name: ClassVar[str] = "labels"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        first = min(max(round(self.first_phase * epochs), 1), epochs - 1)
        return (Phase(self.first_name, first), Phase(self.second_name, epochs - first))

    def layer_share(self, position: Position, _epochs: int) -> float:
        return 1.0 if position.phase == 0 else 0.0


class Annealing(TwoPhases):
    """Phase 1: MSE(z_S, Phi(T) z_T), T from max_temperature to 1 by epoch, and the layers, if any are matched;
    phase 2: CE alone."""

    kind: Literal["annealing"] = "annealing"
    max_temperature: int = Field(7, ge=1)

    first_name: ClassVar[str] = "anneal"

    def terms(self, _targets: Targets, position: Position, epochs: int, _kind: TaskKind) -> tuple[Term, ...]:
        """See ``OnePhase.terms``."""
        if position.phase == 1:
            return (LabelTerm(1.0),)
        return (SquaredTerm(1.0, annealed_scale(position.epoch, epochs, self.max_temperature)),)


class Continuation(Schedule):
    """psi CE + (1 - psi) max(0, MSE(z_S, Phi(T) z_T) - margin Phi(T)), T from max_temperature to 1 over all epochs.
    psi rises to `label_weight` over the share `together` of the epochs, and is 1 after it: the layers, if any are
    matched, follow the second term's weight."""

    kind: Literal["continuation"] = "continuation"
    max_temperature: int = Field(10, ge=1)
    margin: float = Field(0.0, ge=0.0)
    together: float = Field(0.667, gt=0.0, le=1.0)
    label_weight: float = Field(0.5, ge=0.0, le=1.0)

    def terms(self, _targets: Targets, position: Position, epochs: int, _kind: TaskKind) -> tuple[Term, ...]:
        """See ``OnePhase.terms``."""
        share = self.label_share(position.epoch, epochs)
        scale = annealed_scale(position.epoch, epochs, self.max_temperature)
        return (LabelTerm(share), SquaredTerm(1 - share, scale, self.margin * scale))

    def layer_share(self, position: Position, epochs: int) -> float:
        return 1 - self.label_share(position.epoch, epochs)

    def label_share(self, epoch: int, epochs: int) -> float:
        """psi(i) of Continuation-KD (Jafari et al. 2022), the weight of the labels in epoch i, counted from 1.

        It rises in equal steps to ``label_weight`` over the share ``together`` of the epochs, and is 1 after them. The
        paper's i / 40 for i <= 20 of 30 epochs is ``label_weight`` 0.5 with ``together`` 2/3.
        """
        rising = max(1, round(self.together * epochs))
        return self.label_weight * (epoch + 1) / rising if epoch < rising else 1.0


class Progressive(TwoPhases):
    """Phase 1: MSE(z_S, z_T) to several teachers one after the other, in equal parts of the phase, and the layers of
    the same teacher, if any are matched; phase 2: CE alone."""

    kind: Literal["progressive"] = "progressive"

    first_name: ClassVar[str] = "follow"

    def terms(self, _targets: Targets, position: Position, _epochs: int, _kind: TaskKind) -> tuple[Term, ...]:
        """See ``OnePhase.terms``."""
        return (LabelTerm(1.0),) if position.phase == 1 else (SquaredTerm(1.0),)

    def followed(self, epoch: int, epochs: int, teachers: int) -> int:
        """The number of the teacher in this epoch: each is followed for an equal part of the phase. The last epoch has
        the last teacher; with fewer epochs than teachers some are skipped."""
        return -(-(epoch + 1) * teachers // epochs) - 1


class LayersFirst(TwoPhases):
    """Phase 1: the layers alone, without logits or labels; phase 2: tau^2 KL(T || S) alone, of a regression MSE(z_S,
    z_T). Phase 2 starts from the last epoch of phase 1, and the best epoch is one of phase 2. `reduction` is as in
    one-phase."""

    kind: Literal["layers-first"] = "layers-first"
    first_phase: float = Field(0.77, gt=0.0, lt=1.0)
    temperature: float = Field(1.0, gt=0.0)
    reduction: Reduction = "mean"

    first_name: ClassVar[str] = "layers"
    second_name: ClassVar[str] = "logits"

    def terms(self, _targets: Targets, position: Position, _epochs: int, kind: TaskKind) -> tuple[Term, ...]:
        """See ``OnePhase.terms``; none in the first phase."""
        if position.phase == 0:
            return ()
        return (kind.teacher_term(SoftTerm(1.0, self.temperature, self.reduction)),)

    def trains_logits(self, phase: int) -> bool:
        return phase == 1


Training = Annotated[OnePhase | Annealing | Continuation | Progressive | LayersFirst, Field(discriminator="kind")]


def annealed_scale(epoch: int, epochs: int, max_temperature: int) -> float:
    """Phi(T) = 1 - (T - 1) / tau_max for the temperature of this epoch (Jafari et al. 2021, eq. 6).

    T falls from tau_max to 1, at each value for an equal part of the phase, whatever its length. The last epoch always
    has T = 1, Phi = 1. The original code changes T every ``int(epochs / tau_max)`` epochs, which goes below 1 where the
    division leaves a rest, and fails for fewer than tau_max epochs.
    """
    level = -(-(epoch + 1) * max_temperature // epochs)
    temperature = max_temperature - level + 1
    return 1 - (temperature - 1) / max_temperature
