"""Position in training -> what the losses weigh, who is asked what, how fast to learn. Pure arithmetic, no torch."""

from dataclasses import dataclass, replace

from stages.specs.layer_map import groups_at, teacher_layers
from stages.specs.layers import weight_of
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
    or_equal,
)


@dataclass(frozen=True, slots=True)
class Phase:
    """So many epochs with one optimizer. ``name`` appears in the history."""

    name: str
    epochs: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where training is: phase, epoch within the phase, step within the epoch; all from 0."""

    phase: int = 0
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What the terms of the loss weigh in an epoch. A weight of 0 means that the term is not computed."""

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
    def taught(self) -> float:
        """What the term of the teacher's logits weighs: it is soft or a match, never both."""
        return self.soft + self.match


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """What teachers are asked in an epoch: the logits of these (number, share), and these layers of ``teacher``."""

    logits: tuple[tuple[int, float], ...] = ()
    layers: tuple[int, ...] = ()
    teacher: int = 0

    def __bool__(self) -> bool:
        return bool(self.logits or self.layers)


def phases(training: Training, epochs: int) -> tuple[Phase, ...]:
    """The phases of ``epochs`` in all. Of two, the first has ``first_phase`` of them, and each at least one."""
    match training:
        case OnePhase() | Continuation():
            return (Phase("train", epochs),)
        case Annealing() | Progressive():
            first = min(max(round(training.first_phase * epochs), 1), epochs - 1)
            name = "anneal" if isinstance(training, Annealing) else "follow"
            return (Phase(name, first), Phase("labels", epochs - first))


def annealed_scale(epoch: int, epochs: int, max_temperature: int) -> float:
    """Phi(T) = 1 - (T - 1) / tau_max for the temperature of this epoch (Jafari et al. 2021, eq. 6).

    T falls from tau_max to 1 in equal parts of the phase, whatever its length: the original steps every
    ``int(epochs / tau_max)`` epochs, which passes 1 when that does not divide, and fails when it is 0.
    The last epoch always has T = 1, Phi = 1.
    """
    risen = -(-(epoch + 1) * max_temperature // epochs)
    temperature = max_temperature - risen + 1
    return 1 - (temperature - 1) / max_temperature


def label_share(training: Continuation, epoch: int, epochs: int) -> float:
    """psi(i) of Continuation-KD (Jafari et al. 2022), i counted from 1: it rises in equal steps to ``label_weight`` in
    the last of the ``together`` epochs, and is 1 from then on. The paper's i / 40 for i <= 20 of 30 is 0.5 and 2/3."""
    both = max(1, round(training.together * epochs))
    return training.label_weight * (epoch + 1) / both if epoch < both else 1.0


def followed_teacher(epoch: int, epochs: int, teachers: int) -> int:
    """The teacher of this epoch where they are followed in turn, each for an equal part of the phase. The last epoch
    has the last one; with fewer epochs than teachers some are passed over."""
    return -(-(epoch + 1) * teachers // epochs) - 1


def weights_at(method: Method, position: Position, epochs: int, regression: bool) -> LossWeights:
    """The weights in this epoch; ``epochs`` is the length of the position's phase."""
    own = _of_rows(method, position, epochs, regression)
    data = method.data
    if not isinstance(data, WithCandidates) or (position.phase == 0 and position.epoch < data.warmup_epochs):
        return own
    return replace(own, candidates=data.weight * own.taught)


NO_EPOCH = (
    "no epoch is left in which candidates follow the teacher's logits; warm up for fewer, or give those logits a weight"
)


def uses_candidates(method: Method, epochs: int) -> bool:
    """Whether any of so many epochs in all does."""
    first = phases(method.training, epochs)[0].epochs
    return any(weights_at(method, Position(0, epoch), first, regression=False).candidates for epoch in range(first))


def scored_anew(data: Minimax, position: Position) -> bool:
    """Whether all candidates are scored when this epoch begins."""
    return data.every != "step" and (position.epoch - data.warmup_epochs) % data.every == 0


def _of_rows(method: Method, position: Position, epochs: int, regression: bool) -> LossWeights:
    layers = weight_of(method.structure)
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
            both = LossWeights(hard=share, match=1 - share, layers=(1 - share) * layers)
            return replace(both, scale=scale, margin=training.margin * scale)
        case OnePhase() as training:
            return _one_phase(method, training, layers, regression)


def _one_phase(method: Method, training: OnePhase, layers: float, regression: bool) -> LossWeights:
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
    """What the teachers are asked in this epoch, of so many; nobody is asked for a term that weighs nothing."""
    groups = groups_at(method.structure, seed, position.phase, position.epoch) if weights.layers else ()
    layers = teacher_layers(groups)
    if not (isinstance(method.targets, TeacherTargets) and (weights.soft or weights.match)):
        return OutputRequest(layers=layers)
    if isinstance(method.training, Progressive):
        number = followed_teacher(position.epoch, epochs, teachers)
        return OutputRequest(((number, 1.0),), layers, number)
    shares = or_equal(method.targets.shares, teachers)
    return OutputRequest(tuple((number, share) for number, share in enumerate(shares) if share), layers)


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at this step of a phase: linear from 0 over ``warmup`` of the steps, then linear to 0."""
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))
