"""Position in training -> the terms of the loss, and the outputs requested from teachers. Pure arithmetic, no torch."""

from dataclasses import dataclass, replace

from stages.specs.axes.data import WithCandidates, WithGenerator
from stages.specs.axes.kinds import CLASSIFICATION, TaskKind
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import TeacherTargets, shares_or_equal
from stages.specs.axes.terms import LayerTerm, Term, Terms, followed_layers, teacher_term
from stages.specs.axes.training import Position
from stages.specs.layers import Structure
from stages.specs.method import Method


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """The teacher outputs that an epoch needs: the mean of the logits of several teachers, given as (number of the
    teacher, share), and the states of ``layers`` of the teacher with the number ``teacher``. False if it needs none."""

    logits: tuple[tuple[int, float], ...] = ()
    layers: tuple[int, ...] = ()
    teacher: int = 0

    def __bool__(self) -> bool:
        return bool(self.logits or self.layers)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The settings of one epoch: the terms of the loss of a row, the weight of candidates beside it (0 in an epoch
    without candidates), and the outputs requested from the teachers. ``position`` is where the epoch starts or is
    resumed. ``generated`` is the share of a row's loss that compares student and teacher on the row as a generator
    changes it, 0 in an epoch without a generator; the terms have the rest."""

    position: Position
    terms: Terms
    candidates: float = 0.0
    request: OutputRequest = OutputRequest()
    generated: float = 0.0


def epoch_plan(
    method: Method,
    position: Position,
    epochs: int,
    kind: TaskKind,
    teachers: int = 1,
    seed: int = 0,
    auto_weight: float = 1.0,
) -> EpochPlan:
    """The plan of the epoch at ``position`` in a phase of ``epochs`` epochs.

    ``teachers`` is the number of teachers; ``seed``, the student's, decides which layers ``random`` draws.
    ``auto_weight`` is the measured weight of the layers where ``structure.weight`` is ``auto``. Which terms there are
    does not depend on it.
    """
    terms = terms_at(method, position, epochs, kind, seed, auto_weight)
    candidates = candidate_weight(method, position, terms)
    request = output_request(method, terms, position, epochs, teachers)
    return EpochPlan(position, terms, candidates, request, generated_share(method, terms))


def terms_at(
    method: Method, position: Position, epochs: int, kind: TaskKind, seed: int = 0, auto_weight: float = 1.0
) -> Terms:
    """The terms of the epoch whose weight is not 0, the layers last; the parameters are those of ``epoch_plan``."""
    training, structure = method.training, method.structure
    found = training.terms(method.targets, position, epochs, kind)
    weight = training.layer_share(position, epochs) * structure.weight_given(auto_weight)
    return (*(term for term in found if term.weight), *layer_terms(structure, weight, position, epochs, seed))


def layer_terms(structure: Structure, weight: float, position: Position, epochs: int, seed: int) -> tuple[Term, ...]:
    """The term on layers with this weight; () where the weight is 0 or no layer is matched."""
    if not weight:
        return ()
    groups = structure.groups_at(seed, position.phase, position.epoch)
    return (LayerTerm(weight, groups, structure.attention_temperature(position.epoch, epochs)),)


def term_names(method: Method, epochs: int, kind: TaskKind) -> tuple[str, ...]:
    """The names of all terms of a training of ``epochs`` epochs, in the order in which they first appear; those on
    candidates and on generated rows are called ``candidates`` and ``generated``."""
    found: dict[str, None] = {}
    for number, phase in enumerate(method.training.phases(epochs)):
        for epoch in range(phase.epochs):
            plan = epoch_plan(method, Position(number, epoch), phase.epochs, kind)
            found |= dict.fromkeys(term.name for term in plan.terms)
            found |= {CANDIDATES: None} if plan.candidates else {}
            found |= {GENERATED: None} if plan.generated else {}
    return tuple(found)


CANDIDATES = "candidates"
"""The name of the loss of candidates among the terms of a training."""

GENERATED = "generated"
"""The name of the distance between student and teacher on generated rows among the terms of a training."""


def candidate_weight(method: Method, position: Position, terms: Terms) -> float:
    """The weight of a row's candidates beside the row with these terms: that of the term on the teacher's logits times
    ``data.weight``; 0 in the epochs of the warm-up."""
    data, term = method.data, teacher_term(terms)
    if not isinstance(data, WithCandidates) or term is None:
        return 0.0
    return 0.0 if position.phase == 0 and position.epoch < data.warmup_epochs else data.weight * term.weight


def generated_share(method: Method, terms: Terms) -> float:
    """The share of generated rows in the loss of a row with these terms; 0 without a term on the teacher's logits."""
    data = method.data
    return data.share if isinstance(data, WithGenerator) and teacher_term(terms) is not None else 0.0


def generated_epochs(method: Method, epochs: int) -> int:
    """In how many of the ``epochs`` epochs of a training generated rows have a share. The method may name its layers by
    a rule."""
    logits_alone = method.model_copy(update={"structure": NoLayers()})
    return sum(
        bool(epoch_plan(logits_alone, Position(number, epoch), phase.epochs, CLASSIFICATION).generated)
        for number, phase in enumerate(method.training.phases(epochs))
        for epoch in range(phase.epochs)
    )


NO_CANDIDATE_EPOCH = (
    "none trains on candidates, because the teacher's logits have no weight after the warm-up; set fewer "
    "warmup_epochs, or give the teacher's logits a weight"
)
"""The message for a method whose candidates are never used, after "of N epochs"."""


def any_epoch_uses_candidates(method: Method, epochs: int) -> bool:
    """Whether candidates have a weight in any of the ``epochs`` epochs of a training. The method may name its layers by
    a rule."""
    logits_alone = method.model_copy(update={"structure": NoLayers()})
    return CANDIDATES in term_names(logits_alone, epochs, CLASSIFICATION)


def compared_terms(method: Method, epochs: int, kind: TaskKind, seed: int) -> tuple[Term, LayerTerm]:
    """The two terms whose gradients ``structure.weight: auto`` makes equally long, as they are in the first epoch but
    with weight 1: that on the labels and that on the layers. A training whose first phase has no labels has the term on
    the teacher's logits instead. ``epochs`` is the length of the first phase."""
    first = method.training.terms(method.targets, Position(), epochs, kind)[0]
    (layers,) = layer_terms(method.structure, 1.0, Position(), epochs, seed)
    assert isinstance(layers, LayerTerm)
    return replace(first, weight=1.0), layers


def output_request(method: Method, terms: Terms, position: Position, epochs: int, teachers: int) -> OutputRequest:
    """The outputs of ``teachers`` teachers that these terms need, in the epoch at ``position`` of a phase of ``epochs``
    epochs."""
    layers, targets = followed_layers(terms), method.targets
    if not isinstance(targets, TeacherTargets) or teacher_term(terms) is None:
        return OutputRequest(layers=layers)
    only = method.training.followed(position.epoch, epochs, teachers)
    if only is not None:
        return OutputRequest(((only, 1.0),), layers, only)
    shares = shares_or_equal(targets.shares, teachers)
    return OutputRequest(tuple((number, share) for number, share in enumerate(shares) if share), layers)
