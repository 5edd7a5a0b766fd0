"""A(j): the teacher's layers that student layer j follows. Derived from both depths while planning, and drawn anew each
epoch where a method asks for that. Needs the standard library and pydantic only.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from stages.specs.layers import (
    Attend,
    Concatenate,
    GroupRule,
    Matched,
    NoLayers,
    Outputs,
    Pair,
    Pick,
    Random,
    Relational,
    Structure,
)
from stages.specs.seeds import seed_of


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """A(j): student layer ``student`` follows these layers of the teacher."""

    student: int
    teacher: tuple[int, ...]


# --- of a resolved structure --------------------------------------------------------------------


def groups_of(structure: Structure) -> tuple[LayerGroup, ...]:
    """The groups of a resolved structure, in its own order. Where layers are drawn each epoch, any may come to any."""
    match structure:
        case NoLayers():
            return ()
        case Pick(pairs=pairs):
            assert not isinstance(pairs, str), "planning resolves it"
            return tuple(LayerGroup(student, (teacher,)) for student, teacher in pairs)
        case Concatenate(groups=groups) | Attend(groups=groups) | Outputs(groups=groups):
            assert not isinstance(groups, str), "planning resolves it"
            return tuple(LayerGroup(student, teacher) for student, teacher in enumerate(groups, 1))
        case Random(layers=layers, student_layers=own):
            assert layers != "all" and own != "all", "planning resolves it"
            return tuple(LayerGroup(layer, layers) for layer in own)
        case Relational(pair=pair):
            assert pair != "last", "planning resolves it"
            return (LayerGroup(pair[0], (pair[1],)),)
        case _:
            assert_never(structure)


def groups_at(structure: Structure, seed: int, phase: int, epoch: int) -> tuple[LayerGroup, ...]:
    """The groups that are in force in an epoch: for ``random`` as many teacher layers as groups, drawn without
    replacement by (seed, phase, epoch) and put in rising order; else those of every epoch."""
    groups = groups_of(structure)
    if not isinstance(structure, Random):
        return groups
    drawn = drawn_layers(groups[0].teacher, len(groups), seed_of(seed, phase, epoch))
    return tuple(LayerGroup(group.student, (layer,)) for group, layer in zip(groups, drawn, strict=True))


def drawn_layers(layers: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """``count`` of ``layers`` in rising order: the same for the same seed everywhere."""
    return tuple(sorted(sorted(layers, key=lambda layer: seed_of(seed, layer))[:count]))


def teacher_layers(groups: Collection[LayerGroup]) -> tuple[int, ...]:
    """The teacher's layers in these groups, in rising order."""
    return tuple(sorted({layer for group in groups for layer in group.teacher}))


def is_resolved(structure: Structure) -> bool:
    match structure:
        case NoLayers():
            return True
        case Pick(pairs=given) | Concatenate(groups=given) | Attend(groups=given) | Outputs(groups=given):
            return not isinstance(given, str)
        case Relational(pair=given):
            return given != "last"
        case Random(layers=layers, student_layers=own):
            return layers != "all" and own != "all"
        case _:
            assert_never(structure)


def described(groups: Sequence[LayerGroup]) -> str:
    """``1 <- 1-3, 2 <- 4-6``: student layer <- what it follows."""
    return ", ".join(f"{group.student} <- {_runs(group.teacher)}" for group in groups)


def _runs(layers: Sequence[int]) -> str:
    """``1-3+7``: runs of consecutive layers."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return "+".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


# --- by rule ------------------------------------------------------------------------------------


def even_groups(student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    """Layers 1 to ``teacher`` in ``student`` runs without overlap: A(j) = floor((j-1) n / m) + 1 .. floor(j n / m).
    CKD's regular combination, the "NO" of ALP."""
    return tuple(
        tuple(range((j - 1) * teacher // student + 1, j * teacher // student + 1)) for j in range(1, student + 1)
    )


def overlapping_groups(student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    """The even groups, each extended by a layer on both sides where there is one: the "PO" of ALP.

    12 to 4: {1-4} {3-7} {6-10} {9-12}; 6 to 2: {1-4} {3-6}, as in the code of CKD.
    """
    return tuple(
        tuple(range(max(1, run[0] - 1), min(teacher, run[-1] + 1) + 1)) for run in even_groups(student, teacher)
    )


def resolved(structure: Structure, student: int, teacher: int, seed: int = 0) -> Structure:
    """``structure`` for a student and a teacher of these depths, with every layer named. ``seed`` is the student's.

    Raises ValueError when a layer is not there, or when the depths leave nothing to derive.
    """
    match structure:
        case NoLayers():
            return structure
        case Pick(pairs=str(rule)):
            return structure.model_copy(update={"pairs": _pairs(rule, student, teacher, seed)})
        case Concatenate(groups=str(rule)) | Attend(groups=str(rule)) | Outputs(groups=str(rule)):
            return structure.model_copy(update={"groups": _groups(rule, student, teacher)})
        case Relational(pair="last"):
            return structure.model_copy(update={"pair": (student, teacher)})
        case Random():
            return _checked(_random(structure, student, teacher), student, teacher)
        case Pick(pairs=tuple(pairs)):
            return _checked(structure.model_copy(update={"pairs": tuple(sorted(pairs))}), student, teacher)
        case Attend(groups=tuple(groups)) | Outputs(groups=tuple(groups)):
            # What is attended to has no order; what is laid end to end has.
            rising = tuple(tuple(sorted(group)) for group in groups)
            return _checked(structure.model_copy(update={"groups": rising}), student, teacher)
        case _:
            return _checked(structure, student, teacher)


def _groups(rule: GroupRule, student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    match rule:
        case "all":
            return (tuple(range(1, teacher + 1)),) * student
        case "even":
            _deep_enough("structure.groups: even", student, teacher)
            return even_groups(student, teacher)
        case "overlapping":
            _deep_enough("structure.groups: overlapping", student, teacher)
            return overlapping_groups(student, teacher)


def _pairs(rule: str, student: int, teacher: int, seed: int) -> tuple[Pair, ...]:
    """``even``: the last layer of each even group but the last group's, Patient KD's skip map (Sun et al. 2019,
    section 3). ``last``: its other map. ``random``: a control that knows nothing of depth but the order;
    it maps the student's last layer too, and needs a deeper teacher."""
    _deep_enough(f"structure.pairs: {rule}", student, teacher)
    if rule == "random":
        if student == teacher:
            raise ValueError(
                f"structure.pairs: random has one map only of {teacher} layers to {student}; use last, or give pairs"
            )
        return tuple(enumerate(drawn_layers(range(1, teacher + 1), student, seed_of(seed)), 1))
    if student < 2:
        raise ValueError(
            f"structure.pairs: {rule} leaves out a student's last layer, and this one has no other; give pairs"
        )
    if rule == "last":
        return tuple((j, teacher - student + j) for j in range(1, student))
    return tuple((j, run[-1]) for j, run in enumerate(even_groups(student, teacher)[:-1], 1))


def _random(structure: Random, student: int, teacher: int) -> Random:
    layers, own = _rising(structure.layers, teacher), _rising(structure.student_layers, student)
    if len(layers) < len(own):
        raise ValueError(
            f"structure.layers: {len(layers)} layers of the teacher, from which {len(own)} are to be drawn, one for "
            "each of the student's; name more, or fewer in structure.student_layers"
        )
    return structure.model_copy(update={"layers": layers, "student_layers": own})


def _rising(layers: Literal["all"] | Sequence[int], depth: int) -> tuple[int, ...]:
    return tuple(range(1, depth + 1)) if layers == "all" else tuple(sorted(set(layers)))


def _deep_enough(rule: str, student: int, teacher: int) -> None:
    if student > teacher:
        raise ValueError(
            f"{rule} cannot share {teacher} layers of the teacher among {student} of the student; name them"
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
    lacking = [layer for layer in teacher_layers(groups_of(structure)) if layer not in layers]
    if lacking:
        named = ", ".join(map(str, lacking))
        raise ValueError(f"structure: follows layers {named} of the teacher, which store.layers leaves out; add them")
