"""What the kinds of the axis ``structure`` have in common: their base classes, and the types of their fields."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.specs.base import Frozen, Item, repeated
from stages.specs.layer_map import (
    GroupRule,
    LayerGroup,
    check_depths,
    groups_by_rule,
    teacher_layers,
)


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
    def attended_layers(self) -> tuple[int, ...]:
        """For each of the student's layers that attends to layers of the teacher by a softmax of their states, the
        number of these layers; () without attention."""
        return ()

    def attention_temperature(self, _epoch: int, _epochs: int, /) -> float:
        """The temperature of that attention in this epoch (from 0) of a phase of ``_epochs`` epochs; 1 where it is
        learned, and without attention."""
        return 1.0


class NoLayers(StructureKind):
    """No layer is matched."""

    kind: Literal["none"] = "none"


class LayerStructure(StructureKind, ABC):
    """The base class of the kinds that match layers, with the fields that they share. ``pooling`` is how the student's
    states are pooled, and the teacher's as well, unless ``teacher_pooling`` names another way."""

    follows: ClassVar[Literal["nothing", "states", "classifiers", "tokens"]] = "states"

    pooling: Literal["mean", "cls"] = "mean"
    # In the order of ``Head``: typing keeps one object for two optional literals of the same values, whose order, and
    # so that of the documentation of both, would be that of the first one made.
    teacher_pooling: Literal["cls", "mean"] | None = None
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

    @property
    def stored_pooling(self) -> Literal["mean", "cls"]:
        """How the teacher's states that are followed are pooled."""
        return self.teacher_pooling or self.pooling

    def check_store(self, layers: Collection[int], pooling: str, /) -> None:
        if pooling not in (self.stored_pooling, "both"):
            field, remedy = "pooling", "make them the same"
            if self.teacher_pooling is not None:
                field, remedy = "teacher_pooling", f"set that to {self.stored_pooling} or both"
            raise ValueError(f"structure.{field}: {self.stored_pooling}, but store.pooling is {pooling}; {remedy}")
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
