"""The axis ``structure``: which layers of the teacher a student's layers follow, and how.

Layers are numbered as in the teacher-output store: 0 is the embeddings, 1 the first encoder layer. A recipe may name a
rule (``even``, ``random``). Planning knows both depths and resolves it to layer numbers (``resolved``), so that
students with equal maps have equal keys.

A kind of structure is a class here, which says which layers are followed, and a matcher in
``stages/training/objective/matching.py``, which computes the loss. Needs the standard library and pydantic only.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from stages.specs.axes.structures import (
    GroupedLayers,
    Groups,
    LayerNumbers,
    LayerPair,
    LayerPairs,
    LayerStructure,
    Matching,
    NoLayers,
    StructureKind,
)
from stages.specs.base import Frozen
from stages.specs.layer_map import (
    GroupRule,
    LayerGroup,
    PairRule,
    check_depths,
    drawn_layers,
    layer_numbers,
    pairs_by_rule,
    teacher_layers,
    uniform_pairs,
)
from stages.specs.seeds import seed_of


class Pick(Matching):
    """Each student layer follows one layer of the teacher. Adds weight x the squared error of the pooled states, mean
    over dimensions and, unless `over` is sum, over pairs; with `distance: cosine` one less their cosine in its place.
    `pairs` lists [student layer, teacher layer], 1 being the first layer and 0 the embeddings; `even` pairs layer j of
    m, but for the last, with layer floor(j n / m) of n; `last` with layer n - m + j; `random` draws the teacher's
    layers, in rising order, from the student's seed; `final` pairs the last layers alone; `spread` pairs layer i of m,
    from the embeddings to the last, with layer floor(i n / m). Where widths differ, a projection is learned."""

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
    def attended_layers(self) -> tuple[int, ...]:
        return tuple(len(group.teacher) for group in self.layer_groups())

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
