"""The axis ``structure``: which layers of the teacher a student's layers follow, and how.

Layers are numbered as the store numbers them: 0 the embeddings, 1 the first encoder layer. A recipe may
say ``even``; planning, which knows both depths, makes of it the layers that are meant (``resolved``), so
that what is the same map is the same student. Needs the standard library and pydantic only.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal, assert_never

from pydantic import Field

from stages.frozen import Frozen

LayerNumber = Annotated[int, Field(ge=0)]
Pair = tuple[LayerNumber, LayerNumber]
Many = Annotated[tuple[LayerNumber, ...], Field(min_length=1)]


class NoLayers(Frozen):
    """No layer is matched."""

    kind: Literal["none"] = "none"


class Pick(Frozen):
    """Each student layer follows one layer of the teacher. Adds weight x the squared error of the pooled states, mean
    over pairs and dimensions. `pairs` lists [student layer, teacher layer]; `even` pairs layer j of m, but for the
    last, with layer floor(j n / m) of n. Where widths differ, a projection is learned."""

    kind: Literal["pick"] = "pick"
    pairs: Literal["even"] | Annotated[tuple[Pair, ...], Field(min_length=1)] = "even"
    normalised: bool = False
    pooling: Literal["mean", "cls"] = "mean"
    weight: float = Field(1.0, gt=0.0)


class Concatenate(Frozen):
    """Each student layer, projected up, follows a group of the teacher's layers end to end. Adds weight x the squared
    error, mean over groups and dimensions. `groups` holds one list of teacher layers for each student layer from the
    first on; `even` cuts layers 1 to n into m equal runs, or all but equal ones where m does not divide n."""

    kind: Literal["concatenate"] = "concatenate"
    groups: Literal["even"] | Annotated[tuple[Many, ...], Field(min_length=1)] = "even"
    normalised: bool = False
    pooling: Literal["mean", "cls"] = "mean"
    weight: float = Field(1.0, gt=0.0)


Matched = Pick | Concatenate
Structure = Annotated[NoLayers | Pick | Concatenate, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Group:
    """A(j): student layer ``student`` follows these layers of the teacher."""

    student: int
    teacher: tuple[int, ...]


def groups_of(structure: Structure) -> tuple[Group, ...]:
    """The groups of a resolved structure, in its own order."""
    match structure:
        case NoLayers():
            return ()
        case Pick(pairs=pairs):
            assert pairs != "even", "planning resolves it"
            return tuple(Group(student, (teacher,)) for student, teacher in pairs)
        case Concatenate(groups=groups):
            assert groups != "even", "planning resolves it"
            return tuple(Group(student, teacher) for student, teacher in enumerate(groups, 1))
        case _:
            assert_never(structure)


def teacher_layers(structure: Structure) -> tuple[int, ...]:
    """The teacher's layers that a resolved structure reads, in rising order."""
    return tuple(sorted({layer for group in groups_of(structure) for layer in group.teacher}))


def weight_of(structure: Structure) -> float:
    """What the layers' term weighs beside the others."""
    return 0.0 if isinstance(structure, NoLayers) else structure.weight


def is_resolved(structure: Structure) -> bool:
    match structure:
        case NoLayers():
            return True
        case Pick(pairs=given) | Concatenate(groups=given):
            return given != "even"
        case _:
            assert_never(structure)


def even_groups(student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    """Layers 1 to ``teacher`` in ``student`` runs without overlap: A(j) = floor((j-1) n / m) + 1 .. floor(j n / m)."""
    return tuple(
        tuple(range((j - 1) * teacher // student + 1, j * teacher // student + 1)) for j in range(1, student + 1)
    )


def resolved(structure: Structure, student: int, teacher: int) -> Structure:
    """``structure`` for a student and a teacher of these depths, with every layer named.

    Raises ValueError when a layer is not there, or when the depths leave nothing to derive.
    """
    match structure:
        case NoLayers():
            return structure
        case Pick(pairs="even"):
            return _checked(structure.model_copy(update={"pairs": _even_pairs(student, teacher)}), student, teacher)
        case Concatenate(groups="even"):
            _deep_enough("structure.groups", student, teacher)
            return structure.model_copy(update={"groups": even_groups(student, teacher)})
        case _:
            return _checked(structure, student, teacher)


def _even_pairs(student: int, teacher: int) -> tuple[Pair, ...]:
    """The last layer of each even group but the last group's: Patient KD's skip map (Sun et al. 2019, section 3)."""
    _deep_enough("structure.pairs", student, teacher)
    if student < 2:
        raise ValueError(
            "structure.pairs: even leaves out a student's last layer, and this one has no other; give pairs"
        )
    return tuple((j, run[-1]) for j, run in enumerate(even_groups(student, teacher)[:-1], 1))


def _deep_enough(field: str, student: int, teacher: int) -> None:
    if student > teacher:
        raise ValueError(
            f"{field}: even cannot share {teacher} layers of the teacher among {student} of the student; name them"
        )


def _checked(structure: Matched, student: int, teacher: int) -> Structure:
    for group in groups_of(structure):
        _has("student", group.student, student)
        for layer in group.teacher:
            _has("teacher", layer, teacher)
    return structure


def _has(who: str, layer: int, depth: int) -> None:
    if layer > depth:
        raise ValueError(f"structure: the {who} has no layer {layer}; it has 0 (embeddings) to {depth}")


def check_store(structure: Structure, layers: Collection[int], pooling: str) -> None:
    """Raise ValueError where a store of these layers and this pooling lacks what a resolved structure reads."""
    if isinstance(structure, NoLayers):
        return
    if pooling not in (structure.pooling, "both"):
        raise ValueError(f"structure.pooling: {structure.pooling}, but store.pooling is {pooling}; make them the same")
    lacking = [layer for layer in teacher_layers(structure) if layer not in layers]
    if lacking:
        named = ", ".join(map(str, lacking))
        raise ValueError(f"structure: follows layers {named} of the teacher, which store.layers leaves out; add them")


def state_name(layer: int) -> str:
    """What a signal calls the pooled state of a layer."""
    return f"hidden_{layer:02d}"
