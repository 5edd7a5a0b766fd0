"""The axis ``structure``: which layers of the teacher a student's layers follow, and how.

Layers are numbered as in the teacher-output store: 0 is the embeddings, 1 the first encoder layer. A recipe may name a
rule (``even``, ``random``). Planning knows both depths and resolves it to layer numbers (``resolved``), so that
students with equal maps have equal keys.

A kind of structure is a class here, which says which layers are followed, and a matcher in
``stages/training/objective/matching.py``, which computes the loss. Needs the standard library and pydantic only.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.specs.base import Frozen, Item, repeated
from stages.specs.layer_map import (
    GroupRule,
    LayerGroup,
    PairRule,
    check_depths,
    drawn_layers,
    groups_by_rule,
    layer_numbers,
    pairs_by_rule,
    teacher_layers,
    uniform_pairs,
)
from stages.specs.seeds import seed_of


def _distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """``items``, unless one is repeated: then ValueError, because it would count twice."""
    for item in repeated(items):
        raise ValueError(f"must be named once each, {list(item) if isinstance(item, tuple) else item} is repeated")
    return items


LayerNumber = Annotated[int, Field(ge=0)]
LayerPair = tuple[LayerNumber, LayerNumber]
LayerNumbers = Annotated[tuple[LayerNumber, ...], Field(min_length=1), AfterValidator(_distinct)]
LayerPairs = Annotated[tuple[LayerPair, ...], Field(min_length=1), AfterValidator(_distinct)]
Groups = Annotated[tuple[LayerNumbers, ...], Field(min_length=1)]
Weight = Literal["auto"] | Annotated[float, Field(gt=0.0)]
"""The weight of a layer term. ``auto`` is a rule: when training starts, the weight is set so that the term's gradient
on the student's layers is as long as that of the labels' term (see ``stages/training/objective/auto_weight.py``)."""


# --- what all kinds have in common ----------------------------------------------------------------


class StructureKind(Frozen):
    """What planning and training need of a structure. The defaults are those of a structure without layers.

    ``follows`` is what is read of the teacher's layers: their pooled states, the logits of classifiers on them, or the
    states and attention scores of every token.
    ``compares_rows`` says that the loss compares the rows of a batch with each other. ``redraws`` says that the layers
    are drawn again in each epoch.
    """

    follows: ClassVar[Literal["nothing", "states", "classifiers", "tokens"]] = "nothing"
    compares_rows: ClassVar[bool] = False
    redraws: ClassVar[bool] = False

    @property
    def is_resolved(self) -> bool:
        """Whether every layer is named by number, and none by a rule."""
        return True

    def resolved(self, _student: int, _teacher: int, _seed: int = 0, /) -> Self:
        """The structure with its rules resolved to layer numbers, for a student and a teacher of these depths, and the
        student's seed.

        Raises ValueError for a layer that a model does not have, and for a rule that gives no map at these depths.
        """
        return self

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        """The groups of a resolved structure, in its own order. Where layers are drawn again in each epoch, each group
        has all layers to draw from."""
        return ()

    def groups_at(self, _seed: int, _phase: int, _epoch: int, /) -> tuple[LayerGroup, ...]:
        """The groups of a resolved structure in one epoch of a training with this seed: the same in all epochs, unless
        they are drawn."""
        return self.layer_groups()

    def check_store(self, _layers: Collection[int], _pooling: str, /) -> None:
        """Raise ValueError if a store with these layers and this pooling lacks states that a resolved structure
        needs."""

    @property
    def has_measured_weight(self) -> bool:
        """Whether the weight of the layer loss is measured when training starts."""
        return False

    def weight_given(self, _measured: float, /) -> float:
        """The weight of the layer loss, ``_measured`` where it is measured; 0 without layers."""
        return 0.0

    @property
    def attending_layers(self) -> int:
        """The number of the student's layers that attend to layers of the teacher by a softmax of their states."""
        return 0

    def attention_temperature(self, _epoch: int, _epochs: int, /) -> float:
        """The temperature of that attention in this epoch (from 0) of a phase of ``_epochs`` epochs; 1 where it is
        learned, and without attention."""
        return 1.0


class NoLayers(StructureKind):
    """No layer is matched."""

    kind: Literal["none"] = "none"


class LayerStructure(StructureKind, ABC):
    """The base class of the kinds that match layers, with the fields that they share."""

    follows: ClassVar[Literal["nothing", "states", "classifiers", "tokens"]] = "states"

    pooling: Literal["mean", "cls"] = "mean"
    weight: Weight = 1.0

    @property
    @abstractmethod
    def is_resolved(self) -> bool: ...

    @abstractmethod
    def layer_groups(self) -> tuple[LayerGroup, ...]: ...

    @abstractmethod
    def _by_number(self, student: int, teacher: int, seed: int, /) -> Self:
        """As ``resolved``, but the layers need not exist. Raises ValueError for a rule that gives no map."""

    def resolved(self, student: int, teacher: int, seed: int = 0, /) -> Self:
        found = self._by_number(student, teacher, seed)
        check_depths(found.layer_groups(), student, teacher)
        return found

    def check_store(self, layers: Collection[int], pooling: str, /) -> None:
        if pooling not in (self.pooling, "both"):
            raise ValueError(f"structure.pooling: {self.pooling}, but store.pooling is {pooling}; make them the same")
        lacking = [layer for layer in teacher_layers(self.layer_groups()) if layer not in layers]
        if lacking:
            named = ", ".join(map(str, lacking))
            raise ValueError(
                f"structure: needs layers {named} of the teacher, which store.layers leaves out; add them there"
            )

    @property
    def has_measured_weight(self) -> bool:
        return self.weight == "auto"

    def weight_given(self, measured: float, /) -> float:
        return measured if self.weight == "auto" else self.weight


class Matching(LayerStructure, ABC):
    """The fields of the kinds that match states. ``distance`` is their squared error, mean over dimensions, or one less
    their cosine; ``normalised`` first scales both sides to length 1; ``over`` is the reduction over student layers."""

    distance: Literal["squared", "cosine"] = "squared"
    normalised: bool = False
    over: Literal["mean", "sum"] = "mean"

    @model_validator(mode="after")
    def _a_cosine_has_no_lengths(self) -> Self:
        if self.distance == "cosine" and self.normalised:
            raise ValueError("normalised: true, but a cosine does not depend on lengths; give normalised: false")
        return self


class GroupedLayers(LayerStructure, ABC):
    """The kinds in which each student layer, from the first on, follows a group of the teacher's layers.
    ``groups_are_ordered`` says whether the order of the layers in a group has an effect."""

    groups_are_ordered: ClassVar[bool] = False

    groups: GroupRule | Groups = "all"

    @property
    def is_resolved(self) -> bool:
        return not isinstance(self.groups, str)

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        assert not isinstance(self.groups, str), "planning resolves rules"
        return tuple(LayerGroup(student, teacher) for student, teacher in enumerate(self.groups, 1))

    def _by_number(self, student: int, teacher: int, _seed: int, /) -> Self:
        groups = self.groups
        if isinstance(groups, str):
            groups = groups_by_rule(groups, student, teacher)
        elif not self.groups_are_ordered:
            groups = tuple(tuple(sorted(group)) for group in groups)
        return self.model_copy(update={"groups": groups})


# --- the kinds ------------------------------------------------------------------------------------


class Pick(Matching):
    """Each student layer follows one layer of the teacher. Adds weight x the squared error of the pooled states, mean
    over dimensions and, unless `over` is sum, over pairs; with `distance: cosine` one less their cosine in its place.
    `pairs` lists [student layer, teacher layer], 1 being the first layer and 0 the embeddings; `even` pairs layer j of
    m, but for the last, with layer floor(j n / m) of n; `last` with layer n - m + j; `random` draws the teacher's
    layers, in rising order, from the student's seed; `final` pairs the last layers alone. Where widths differ, a
    projection is learned."""

    kind: Literal["pick"] = "pick"
    pairs: PairRule | LayerPairs = "even"

    @property
    def is_resolved(self) -> bool:
        return not isinstance(self.pairs, str)

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        assert not isinstance(self.pairs, str), "planning resolves rules"
        return tuple(LayerGroup(student, (teacher,)) for student, teacher in self.pairs)

    def _by_number(self, student: int, teacher: int, seed: int, /) -> Self:
        pairs = self.pairs
        found = pairs_by_rule(pairs, student, teacher, seed) if isinstance(pairs, str) else tuple(sorted(pairs))
        return self.model_copy(update={"pairs": found})


class Concatenate(GroupedLayers, Matching):
    """Each student layer, projected up, follows a group of the teacher's layers end to end. Adds weight x the squared
    error (or `distance`, as in pick), mean over dimensions and, unless `over` is sum, over groups. `groups` holds one
    list of teacher layers (1 is the first) for each student layer from the first on; `even` cuts layers 1 to n into m
    equal runs, or all but equal ones where m does not divide n; `overlapping` extends each run by a layer on both
    sides; `all` gives every layer to each."""

    groups_are_ordered: ClassVar[bool] = True

    kind: Literal["concatenate"] = "concatenate"
    groups: GroupRule | Groups = "even"


class AnnealedTemperature(Frozen):
    """A temperature that falls from `annealed` in the first epoch to 1 in the last one of the phase, by an equal factor
    from each epoch to the next."""

    annealed: float = Field(gt=1.0)


Temperature = Literal["learned"] | Annotated[float, Field(gt=0.0)] | AnnealedTemperature


class Attend(GroupedLayers, Matching):
    """Each student layer h follows sum_k alpha_k h_k over a group of the teacher's layers, alpha = softmax_k(h . h_k),
    row by row. Adds weight x the squared error (or `distance`, as in pick), mean over dimensions and, unless `over` is
    mean, sum over groups.
    `groups` is as in concatenate. `scaled` divides h . h_k by the square root of the width, and `temperature` by a
    number: `{annealed: T}` lets it fall from T to 1 over the epochs, and with `learned` each group has its own, trained
    from 1 on. `detached` lets no gradient of the student through alpha. Where widths differ, a projection of the
    student's state is learned."""

    kind: Literal["attend"] = "attend"
    over: Literal["mean", "sum"] = "sum"
    scaled: bool = False
    detached: bool = False
    temperature: Temperature = 1.0

    @property
    def attending_layers(self) -> int:
        return len(self.layer_groups())

    def attention_temperature(self, epoch: int, epochs: int, /) -> float:
        """``annealed: T`` gives T^((epochs - 1 - epoch) / (epochs - 1)); a phase of one epoch has 1."""
        if isinstance(self.temperature, AnnealedTemperature):
            return float(self.temperature.annealed ** ((epochs - 1 - epoch) / max(epochs - 1, 1)))
        return 1.0 if self.temperature == "learned" else self.temperature


class Random(LayerStructure):
    """Layers of the teacher, one for each of the student's, are drawn again in each epoch and followed in rising order.
    Both sides are projected to `width` dimensions and scaled to length 1; adds weight x the squared distance, summed
    over layers, or with `joined` that of all layers end to end, projected as one. `layers` are the teacher's to draw
    from, `student_layers` those that follow; 1 is the first layer."""

    redraws: ClassVar[bool] = True

    kind: Literal["random"] = "random"
    layers: Literal["all"] | LayerNumbers = "all"
    student_layers: Literal["all"] | LayerNumbers = "all"
    joined: bool = False
    width: int = Field(128, ge=1)

    @property
    def is_resolved(self) -> bool:
        return self.layers != "all" and self.student_layers != "all"

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        assert self.layers != "all" and self.student_layers != "all", "planning resolves rules"
        return tuple(LayerGroup(layer, self.layers) for layer in self.student_layers)

    def groups_at(self, seed: int, phase: int, epoch: int, /) -> tuple[LayerGroup, ...]:
        """One teacher layer for each student layer, drawn without replacement by (seed, phase, epoch) and assigned in
        rising order."""
        groups = self.layer_groups()
        drawn = drawn_layers(groups[0].teacher, len(groups), seed_of(seed, phase, epoch))
        return tuple(LayerGroup(group.student, (layer,)) for group, layer in zip(groups, drawn, strict=True))

    def _by_number(self, student: int, teacher: int, _seed: int, /) -> Self:
        layers, own = layer_numbers(self.layers, teacher), layer_numbers(self.student_layers, student)
        if len(layers) < len(own):
            raise ValueError(
                f"structure.layers: has {len(layers)} teacher layers, but {len(own)} are to be drawn, one for each "
                "student layer; name more, or fewer in structure.student_layers"
            )
        return self.model_copy(update={"layers": layers, "student_layers": own})


class Relational(LayerStructure):
    """Matches the distances and angles between the rows of a batch in one layer: adds distance x smooth L1 of distances
    over their mean, and angle x smooth L1 of the cosines of angles. `pair` is [student layer, teacher layer], 1 being
    the first; `last` the last of each."""

    compares_rows: ClassVar[bool] = True

    kind: Literal["relational"] = "relational"
    pair: Literal["last"] | LayerPair = "last"
    distance: float = Field(1.0, ge=0.0)
    angle: float = Field(2.0, ge=0.0)

    @model_validator(mode="after")
    def _something_is_compared(self) -> "Relational":
        if self.distance == self.angle == 0:
            raise ValueError("distance and angle: both 0, so that nothing is compared; give one of them")
        return self

    @property
    def is_resolved(self) -> bool:
        return self.pair != "last"

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        assert self.pair != "last", "planning resolves rules"
        student, teacher = self.pair
        return (LayerGroup(student, (teacher,)),)

    def _by_number(self, student: int, teacher: int, _seed: int, /) -> Self:
        return self.model_copy(update={"pair": (student, teacher) if self.pair == "last" else self.pair})


class Outputs(GroupedLayers):
    """Layers are compared by the logits z of a classifier on each: that on a student layer is learned with the student
    and follows sum_k alpha_k z_k over a group of the teacher's layers, alpha = softmax_k(z . z_k). Adds weight x tau^2
    KL, or squared error for a regression, mean over groups. The teacher's classifiers are fitted on its stored states,
    out of fold."""

    follows: ClassVar[Literal["nothing", "states", "classifiers", "tokens"]] = "classifiers"

    kind: Literal["outputs"] = "outputs"
    temperature: float = Field(1.0, gt=0.0)


class EveryToken(StructureKind):
    """Layers are compared token by token. Adds weight x the sum over pairs of the squared error of the states at all
    tokens, each projected by one learned projection that all layers share, and with `scores` the sum over pairs of
    layers of that of the attention scores before the softmax. `pairs` is as in pick; `uniform` pairs layer i of m with
    layer i n / m of n, embeddings included. It reads stores of the teacher's states and scores at every token, which
    are large."""

    follows: ClassVar[Literal["nothing", "states", "classifiers", "tokens"]] = "tokens"

    kind: Literal["tokens"] = "tokens"
    pairs: Literal["uniform"] | LayerPairs = "uniform"
    scores: bool = True
    weight: float = Field(1.0, gt=0.0)

    @property
    def is_resolved(self) -> bool:
        return self.pairs != "uniform"

    def resolved(self, student: int, teacher: int, _seed: int = 0, /) -> Self:
        pairs = uniform_pairs(student, teacher) if self.pairs == "uniform" else tuple(sorted(self.pairs))
        found = self.model_copy(update={"pairs": pairs})
        check_depths(found.layer_groups(), student, teacher)
        mixed = [list(pair) for pair in pairs if min(pair) == 0 < max(pair)]
        if self.scores and mixed:
            problem = "but the embeddings (0) have no attention scores; pair them with each other, or set scores: false"
            raise ValueError(f"structure.pairs: {mixed[0]}, {problem}")
        return found

    def layer_groups(self) -> tuple[LayerGroup, ...]:
        assert self.pairs != "uniform", "planning resolves rules"
        return tuple(LayerGroup(student, (teacher,)) for student, teacher in self.pairs)

    def weight_given(self, _measured: float, /) -> float:
        return self.weight

    @property
    def score_layers(self) -> tuple[int, ...]:
        """The teacher's layers whose attention scores a resolved structure follows, in rising order."""
        return tuple(layer for layer in teacher_layers(self.layer_groups()) if layer) if self.scores else ()


Structure = Annotated[
    NoLayers | Pick | Concatenate | Attend | Random | Relational | Outputs | EveryToken, Field(discriminator="kind")
]


def state_name(layer: int) -> str:
    """The name of a layer's pooled state, or of the logits of a classifier on it, in the outputs of a ``Signal``."""
    return f"hidden_{layer:02d}"
