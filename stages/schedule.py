"""Position in training -> what the losses weigh, and how fast to learn. Pure arithmetic, no torch."""

from dataclasses import dataclass

from stages.method import Annealing, Hard, Method, OnePhase, Smoothed, Taught, Training
from stages.structure import weight_of


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
class Weights:
    """What the terms of the loss weigh in an epoch. A weight of 0 means that the term is not computed."""

    hard: float = 0.0
    smoothed: float = 0.0
    soft: float = 0.0
    match: float = 0.0
    layers: float = 0.0
    temperature: float = 1.0
    scale: float = 1.0

    @property
    def follows(self) -> bool:
        """Whether a teacher is asked."""
        return bool(self.soft or self.match or self.layers)


def phases(training: Training, epochs: int) -> tuple[Phase, ...]:
    """The phases of ``epochs`` in all. Annealing gives ``first_phase`` of them to phase 1, at least one to each."""
    match training:
        case OnePhase():
            return (Phase("train", epochs),)
        case Annealing():
            first = min(max(round(training.first_phase * epochs), 1), epochs - 1)
            return (Phase("anneal", first), Phase("labels", epochs - first))


def annealed_scale(epoch: int, epochs: int, max_temperature: int) -> float:
    """Phi(T) = 1 - (T - 1) / tau_max for the temperature of this epoch (Jafari et al. 2021, eq. 6).

    T falls from tau_max to 1 in equal parts of the phase, whatever its length: the original steps every
    ``int(epochs / tau_max)`` epochs, which passes 1 when that does not divide, and fails when it is 0.
    The last epoch always has T = 1, Phi = 1.
    """
    risen = -(-(epoch + 1) * max_temperature // epochs)
    temperature = max_temperature - risen + 1
    return 1 - (temperature - 1) / max_temperature


def weights(method: Method, position: Position, epochs: int, regression: bool) -> Weights:
    """The weights in this epoch; ``epochs`` is the length of the position's phase."""
    training, layers = method.training, weight_of(method.structure)
    if isinstance(training, Annealing):
        if position.phase == 1:
            return Weights(hard=1.0)
        return Weights(match=1.0, layers=layers, scale=annealed_scale(position.epoch, epochs, training.max_temperature))
    match method.targets:
        case Taught():
            share = training.teacher_weight
            # A regression has no softmax: the soft term becomes the squared error to the teacher's output.
            if regression:
                return Weights(hard=1 - share, match=share, layers=layers)
            return Weights(hard=1 - share, soft=share, layers=layers, temperature=training.temperature)
        case Smoothed():
            return Weights(smoothed=1.0, layers=layers)
        case Hard():
            return Weights(hard=1.0, layers=layers)


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at this step of a phase: linear from 0 over ``warmup`` of the steps, then linear to 0."""
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    return max(0.0, (steps - step) / max(1, steps - rising))
