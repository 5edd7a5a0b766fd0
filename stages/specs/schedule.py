"""Position in training -> weights of the loss terms, and outputs requested from teachers. Pure arithmetic, no torch."""

from dataclasses import dataclass, replace

from stages.specs.layer_map import groups_at, teacher_layers
from stages.specs.layers import AnnealedTemperature, Attend, Structure, weight_of
from stages.specs.method import (
    Annealing,
    Continuation,
    Method,
    Minimax,
    OnePhase,
    Progressive,
    Smoothed,
    TeacherTargets,
    Training,
    Virtual,
    WithCandidates,
    shares_or_equal,
)


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


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The weights of the loss terms in an epoch, by the names in ``losses.TERMS``; a term of weight 0 is not computed.
    And the settings of terms: ``temperature`` of ``soft``, ``scale`` and ``margin`` of ``match``."""

    hard: float = 0.0
    smoothed: float = 0.0
    soft: float = 0.0
    match: float = 0.0
    layers: float = 0.0
    candidates: float = 0.0
    temperature: float = 1.0
    scale: float = 1.0
    margin: float = 0.0

    @property
    def teacher_logits(self) -> float:
        """The weight of the term on the teacher's logits, which is either ``soft`` or ``match``, never both."""
        return self.soft + self.match


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """The teacher outputs that an epoch needs: the mean of the logits of several teachers, given as (number of the
    teacher, share), and the states of ``layers`` of the teacher with the number ``teacher``. False if it needs none."""

    logits: tuple[tuple[int, float], ...] = ()
    layers: tuple[int, ...] = ()
    teacher: int = 0

    def __bool__(self) -> bool:
        return bool(self.logits or self.layers)


def phases(training: Training, epochs: int) -> tuple[Phase, ...]:
    """The phases of a training of ``epochs`` epochs. Of two phases, the first has the share ``first_phase`` of the
    epochs, and each has at least one."""
    match training:
        case OnePhase() | Continuation():
            return (Phase("train", epochs),)
        case Annealing() | Progressive():
            first = min(max(round(training.first_phase * epochs), 1), epochs - 1)
            name = "anneal" if isinstance(training, Annealing) else "follow"
            return (Phase(name, first), Phase("labels", epochs - first))


def annealed_scale(epoch: int, epochs: int, max_temperature: int) -> float:
    """Phi(T) = 1 - (T - 1) / tau_max for the temperature of this epoch (Jafari et al. 2021, eq. 6).

    T falls from tau_max to 1, at each value for an equal part of the phase, whatever its length. The last epoch always
    has T = 1, Phi = 1. The original code changes T every ``int(epochs / tau_max)`` epochs, which goes below 1 where the
    division leaves a rest, and fails for fewer than tau_max epochs.
    """
    level = -(-(epoch + 1) * max_temperature // epochs)
    temperature = max_temperature - level + 1
    return 1 - (temperature - 1) / max_temperature


def attention_temperature(structure: Structure, epoch: int, epochs: int) -> float:
    """The temperature of the attention to the teacher's layers in this epoch of a phase of ``epochs`` epochs; 1 where
    it is learned, and for a structure without attention. ``annealed: T`` gives T^((epochs - 1 - epoch) / (epochs - 1)),
    epochs counted from 0; a phase of one epoch has 1."""
    temperature = structure.temperature if isinstance(structure, Attend) else 1.0
    if isinstance(temperature, AnnealedTemperature):
        return float(temperature.annealed ** ((epochs - 1 - epoch) / max(epochs - 1, 1)))
    return 1.0 if temperature == "learned" else temperature


def label_share(training: Continuation, epoch: int, epochs: int) -> float:
    """psi(i) of Continuation-KD (Jafari et al. 2022), the weight of the labels in epoch i, counted from 1.

    It rises in equal steps to ``label_weight`` over the share ``together`` of the epochs, and is 1 after them. The
    paper's i / 40 for i <= 20 of 30 epochs is ``label_weight`` 0.5 with ``together`` 2/3.
    """
    rising = max(1, round(training.together * epochs))
    return training.label_weight * (epoch + 1) / rising if epoch < rising else 1.0


def followed_teacher(epoch: int, epochs: int, teachers: int) -> int:
    """The number of the teacher in this epoch, for a method that follows its teachers one after the other, each for an
    equal part of the phase. The last epoch has the last teacher; with fewer epochs than teachers some are skipped."""
    return -(-(epoch + 1) * teachers // epochs) - 1


def weights_at(
    method: Method, position: Position, epochs: int, regression: bool, auto_weight: float = 1.0
) -> LossWeights:
    """The weights of the loss terms in the epoch at ``position``; ``epochs`` is the length of its phase.

    ``auto_weight`` is the measured weight of the layers where ``structure.weight`` is ``auto``. Which terms have a
    weight does not depend on it.
    """
    own = _weights_without_candidates(method, position, epochs, regression, auto_weight)
    data = method.data
    if not isinstance(data, WithCandidates) or (position.phase == 0 and position.epoch < data.warmup_epochs):
        return own
    return replace(own, candidates=data.weight * own.teacher_logits)


NO_CANDIDATE_EPOCH = (
    "none trains on candidates, because the teacher's logits have no weight after the warm-up; set fewer "
    "warmup_epochs, or give the teacher's logits a weight"
)
"""The message for a method whose candidates are never used, after "of N epochs"."""


def any_epoch_uses_candidates(method: Method, epochs: int) -> bool:
    """Whether candidates have a weight in any of the ``epochs`` epochs of a training."""
    first = phases(method.training, epochs)[0].epochs
    return any(weights_at(method, Position(0, epoch), first, regression=False).candidates for epoch in range(first))


def rescores_candidates(data: Minimax, position: Position) -> bool:
    """Whether minimax scores all candidates of train when the epoch at ``position`` begins."""
    return data.every != "step" and (position.epoch - data.warmup_epochs) % data.every == 0


def compared_weights(method: Method, epochs: int) -> LossWeights:
    """The weights of the two terms whose gradients ``structure.weight: auto`` makes equally long, each 1: the layers
    and the labels' term, which is ``hard`` or ``smoothed``. A training whose first phase has no labels has the term on
    the teacher's logits of that phase instead, ``match``, with the scale of the first epoch. ``epochs`` is the length
    of the first phase."""
    if isinstance(method.training, Annealing | Progressive):
        first = _weights_without_candidates(method, Position(), epochs, regression=False, auto_weight=1.0)
        return LossWeights(match=1.0, layers=1.0, scale=first.scale)
    if isinstance(method.targets, Smoothed):
        return LossWeights(smoothed=1.0, layers=1.0)
    return LossWeights(hard=1.0, layers=1.0)


def _weights_without_candidates(
    method: Method, position: Position, epochs: int, regression: bool, auto_weight: float
) -> LossWeights:
    """The weights of the terms on the task's own rows."""
    layers = weight_of(method.structure, auto_weight)
    match method.training:
        case Annealing() | Progressive() if position.phase == 1:
            return LossWeights(hard=1.0)
        case Annealing(max_temperature=most):
            return LossWeights(match=1.0, layers=layers, scale=annealed_scale(position.epoch, epochs, most))
        case Progressive():
            return LossWeights(match=1.0, layers=layers)
        case Continuation() as training:
            share = label_share(training, position.epoch, epochs)
            scale = annealed_scale(position.epoch, epochs, training.max_temperature)
            weights = LossWeights(hard=share, match=1 - share, layers=(1 - share) * layers)
            return replace(weights, scale=scale, margin=training.margin * scale)
        case OnePhase() as training:
            return _one_phase(method, training, layers, regression)


def _one_phase(method: Method, training: OnePhase, layers: float, regression: bool) -> LossWeights:
    """The weights of a method with constant weights, by its targets."""
    share = training.teacher_weight
    match method.targets:
        case TeacherTargets() if regression:
            # A regression has no softmax: the soft term becomes the squared error to the teacher's output.
            return LossWeights(hard=1 - share, match=share, layers=layers)
        case TeacherTargets() | Virtual():
            return LossWeights(hard=1 - share, soft=share, layers=layers, temperature=training.temperature)
        case Smoothed():
            return LossWeights(smoothed=1.0, layers=layers)
        case _:
            return LossWeights(hard=1.0, layers=layers)


def output_request(
    method: Method, weights: LossWeights, position: Position, epochs: int, teachers: int, seed: int
) -> OutputRequest:
    """The outputs that the epoch at ``position`` needs of ``teachers`` teachers: none for terms of weight 0. ``epochs``
    is the length of the phase; ``seed``, the student's, decides which layers ``random`` draws."""
    groups = groups_at(method.structure, seed, position.phase, position.epoch) if weights.layers else ()
    layers = teacher_layers(groups)
    if not (isinstance(method.targets, TeacherTargets) and (weights.soft or weights.match)):
        return OutputRequest(layers=layers)
    if isinstance(method.training, Progressive):
        number = followed_teacher(position.epoch, epochs, teachers)
        return OutputRequest(((number, 1.0),), layers, number)
    shares = shares_or_equal(method.targets.shares, teachers)
    return OutputRequest(tuple((number, share) for number, share in enumerate(shares) if share), layers)
