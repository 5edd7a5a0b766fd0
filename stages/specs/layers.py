"""The axis ``structure``: which layers of the teacher a student's layers follow, and how.

Layers are numbered as in the teacher-output store: 0 is the embeddings, 1 the first encoder layer. A recipe may name a
rule (``even``, ``random``). Planning knows both depths and resolves it to layer numbers (``layer_map.resolved``), so
that students with equal maps have equal keys. Needs the standard library and
pydantic only.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.specs.base import Frozen, Item, repeated


def _distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """``items``, unless one is repeated: then ValueError, because it would count twice."""
    for item in repeated(items):
        raise ValueError(f"must be named once each, {list(item) if isinstance(item, tuple) else item} is repeated")
    return items


LayerNumber = Annotated[int, Field(ge=0)]
Pair = tuple[LayerNumber, LayerNumber]
LayerNumbers = Annotated[tuple[LayerNumber, ...], Field(min_length=1), AfterValidator(_distinct)]
Pairs = Annotated[tuple[Pair, ...], Field(min_length=1), AfterValidator(_distinct)]
Groups = Annotated[tuple[LayerNumbers, ...], Field(min_length=1)]
GroupRule = Literal["even", "overlapping", "all"]
Weight = Literal["auto"] | Annotated[float, Field(gt=0.0)]
"""The weight of a layer term. ``auto`` is a rule: when training starts, the weight is set so that the term's gradient
on the student's layers is as long as that of the labels' term (see ``stages/training/objective/auto_weight.py``)."""


class NoLayers(Frozen):
    """No layer is matched."""

    kind: Literal["none"] = "none"


class Matching(Frozen):
    """The fields of the kinds that match states. ``normalised`` first scales both sides to length 1; ``over`` is the
    reduction over student layers (over dimensions it is the mean)."""

    pooling: Literal["mean", "cls"] = "mean"
    normalised: bool = False
    over: Literal["mean", "sum"] = "mean"
    weight: Weight = 1.0


class Pick(Matching):
    """Each student layer follows one layer of the teacher. Adds weight x the squared error of the pooled states, mean
    over dimensions and, unless `over` is sum, over pairs. `pairs` lists [student layer, teacher layer], 1 being the
    first layer and 0 the embeddings; `even` pairs layer j of m, but for the last, with layer floor(j n / m) of n;
    `last` with layer n - m + j; `random` draws the teacher's layers, in rising order, from the student's seed. Where
    widths differ, a projection is learned."""

    kind: Literal["pick"] = "pick"
    pairs: Literal["even", "last", "random"] | Pairs = "even"


class Concatenate(Matching):
    """Each student layer, projected up, follows a group of the teacher's layers end to end. Adds weight x the squared
    error, mean over dimensions and, unless `over` is sum, over groups. `groups` holds one list of teacher layers (1 is
    the first) for each student layer from the first on; `even` cuts layers 1 to n into m equal runs, or all but equal
    ones where m does not divide n; `overlapping` extends each run by a layer on both sides; `all` gives every layer to
    each."""

    kind: Literal["concatenate"] = "concatenate"
    groups: GroupRule | Groups = "even"


class AnnealedTemperature(Frozen):
    """A temperature that falls from `annealed` in the first epoch to 1 in the last one of the phase, by an equal factor
    from each epoch to the next."""

    annealed: float = Field(gt=1.0)


Temperature = Literal["learned"] | Annotated[float, Field(gt=0.0)] | AnnealedTemperature


class Attend(Matching):
    """Each student layer h follows sum_k alpha_k h_k over a group of the teacher's layers, alpha = softmax_k(h . h_k),
    row by row. Adds weight x the squared error, mean over dimensions and, unless `over` is mean, sum over groups.
    `groups` is as in concatenate. `scaled` divides h . h_k by the square root of the width, and `temperature` by a
    number: `{annealed: T}` lets it fall from T to 1 over the epochs, and with `learned` each group has its own, trained
    from 1 on. `detached` lets no gradient of the student through alpha. Where widths differ, a projection of the
    student's state is learned."""

    kind: Literal["attend"] = "attend"
    groups: GroupRule | Groups = "all"
    over: Literal["mean", "sum"] = "sum"
    scaled: bool = False
    detached: bool = False
    temperature: Temperature = 1.0


class Random(Frozen):
    """Layers of the teacher, one for each of the student's, are drawn again in each epoch and followed in rising order.
    Both sides are projected to `width` dimensions and scaled to length 1; adds weight x the squared distance, summed
    over layers, or with `joined` that of all layers end to end, projected as one. `layers` are the teacher's to draw
    from, `student_layers` those that follow; 1 is the first layer."""

    kind: Literal["random"] = "random"
    layers: Literal["all"] | LayerNumbers = "all"
    student_layers: Literal["all"] | LayerNumbers = "all"
    joined: bool = False
    width: int = Field(128, ge=1)
    pooling: Literal["mean", "cls"] = "mean"
    weight: Weight = 1.0


class Relational(Frozen):
    """Matches the distances and angles between the rows of a batch in one layer: adds distance x smooth L1 of distances
    over their mean, and angle x smooth L1 of the cosines of angles. `pair` is [student layer, teacher layer], 1 being
    the first; `last` the last of each."""

    kind: Literal["relational"] = "relational"
    pair: Literal["last"] | Pair = "last"
    distance: float = Field(1.0, ge=0.0)
    angle: float = Field(2.0, ge=0.0)
    pooling: Literal["mean", "cls"] = "mean"
    weight: Weight = 1.0

    @model_validator(mode="after")
    def _something_is_compared(self) -> "Relational":
        if self.distance == self.angle == 0:
            raise ValueError("distance and angle: both 0, so that nothing is compared; give one of them")
        return self


class Outputs(Frozen):
    """Layers are compared by the logits z of a classifier on each: that on a student layer is learned with the student
    and follows sum_k alpha_k z_k over a group of the teacher's layers, alpha = softmax_k(z . z_k). Adds weight x tau^2
    KL, or squared error for a regression, mean over groups. The teacher's classifiers are fitted on its stored states,
    out of fold."""

    kind: Literal["outputs"] = "outputs"
    groups: GroupRule | Groups = "all"
    temperature: float = Field(1.0, gt=0.0)
    pooling: Literal["mean", "cls"] = "mean"
    weight: Weight = 1.0


Matched = Pick | Concatenate | Attend | Random | Relational | Outputs
Structure = Annotated[
    NoLayers | Pick | Concatenate | Attend | Random | Relational | Outputs, Field(discriminator="kind")
]


def is_auto(structure: Structure) -> bool:
    """Whether the weight of the layer loss is measured when training starts."""
    return not isinstance(structure, NoLayers) and structure.weight == "auto"


def weight_of(structure: Structure, measured: float) -> float:
    """The weight of the layer loss; 0 for ``none``, and ``measured`` where the structure says ``auto``."""
    if isinstance(structure, NoLayers):
        return 0.0
    return measured if structure.weight == "auto" else structure.weight


def state_name(layer: int) -> str:
    """The name of a layer's pooled state, or of the logits of a classifier on it, in the outputs of a ``Signal``."""
    return f"hidden_{layer:02d}"
