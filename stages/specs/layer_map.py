"""Layer maps A(j): the teacher layers that student layer j follows.

Rules such as ``even`` are resolved to layer numbers while planning, from the depths of both models; the structure
``random`` draws layers again in each epoch. Needs the standard library and pydantic only.
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
    """The groups of a resolved structure, in its own order. For ``random``, each group has all layers to draw from."""
    match structure:
        case NoLayers():
            return ()
        case Pick(pairs=pairs):
            assert not isinstance(pairs, str), "planning resolves rules"
            return tuple(LayerGroup(student, (teacher,)) for student, teacher in pairs)
        case Concatenate(groups=groups) | Attend(groups=groups) | Outputs(groups=groups):
            assert not isinstance(groups, str), "planning resolves rules"
            return tuple(LayerGroup(student, teacher) for student, teacher in enumerate(groups, 1))
        case Random(layers=layers, student_layers=own):
            assert layers != "all" and own != "all", "planning resolves rules"
            return tuple(LayerGroup(layer, layers) for layer in own)
        case Relational(pair=pair):
            assert pair != "last", "planning resolves rules"
            return (LayerGroup(pair[0], (pair[1],)),)
        case _:
            assert_never(structure)


def attending_layers(structure: Structure) -> int:
    """The number of the student's layers that attend to layers of the teacher; 0 for all structures but ``attend``."""
    return len(groups_of(structure)) if isinstance(structure, Attend) else 0


def groups_at(structure: Structure, seed: int, phase: int, epoch: int) -> tuple[LayerGroup, ...]:
    """The groups of a resolved structure in one epoch.

    For ``random``, one teacher layer for each student layer, drawn without replacement by (seed, phase, epoch) and
    assigned in rising order; for all other structures the groups are the same in every epoch.
    """
    groups = groups_of(structure)
    if not isinstance(structure, Random):
        return groups
    drawn = drawn_layers(groups[0].teacher, len(groups), seed_of(seed, phase, epoch))
    return tuple(LayerGroup(group.student, (layer,)) for group, layer in zip(groups, drawn, strict=True))


def drawn_layers(layers: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """``count`` random ones of ``layers``, in rising order. The same seed gives the same layers on every machine."""
    return tuple(sorted(sorted(layers, key=lambda layer: seed_of(seed, layer))[:count]))


def teacher_layers(groups: Collection[LayerGroup]) -> tuple[int, ...]:
    """The teacher's layers in these groups, in rising order."""
    return tuple(sorted({layer for group in groups for layer in group.teacher}))


def is_resolved(structure: Structure) -> bool:
    """Whether ``structure`` names every layer by number, and none by a rule."""
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


def describe_groups(groups: Sequence[LayerGroup]) -> str:
    """The groups as text, such as ``1 <- 1-3, 2 <- 4-6``: student layer <- teacher layers."""
    return ", ".join(f"{group.student} <- {_runs(group.teacher)}" for group in groups)


def _runs(layers: Sequence[int]) -> str:
    """Layers as text, such as ``1-3+7``: runs of consecutive layers."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return "+".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


# --- by rule ------------------------------------------------------------------------------------


def even_groups(student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    """Layers 1 to n (``teacher``) divided into m (``student``) runs without overlap: A(j) = floor((j-1) n / m) + 1 ..
    floor(j n / m). CKD's regular combination, the "NO" of ALP."""
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
    """``structure`` with its rules resolved to layer numbers, for a student and a teacher of these depths. ``seed`` is
    that of the student.

    Raises ValueError for a layer that a model does not have, and for a rule that gives no map at these depths.
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
            # The order of a group has no effect on attention, but it has on concatenation.
            rising = tuple(tuple(sorted(group)) for group in groups)
            return _checked(structure.model_copy(update={"groups": rising}), student, teacher)
        case _:
            return _checked(structure, student, teacher)


def _groups(rule: GroupRule, student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    """A(1) .. A(m) by this rule."""
    match rule:
        case "all":
            return (tuple(range(1, teacher + 1)),) * student
        case "even":
            _require_depth("structure.groups: even", student, teacher)
            return even_groups(student, teacher)
        case "overlapping":
            _require_depth("structure.groups: overlapping", student, teacher)
            return overlapping_groups(student, teacher)


def _pairs(rule: str, student: int, teacher: int, seed: int) -> tuple[Pair, ...]:
    """(student layer, teacher layer) by this rule. ``even`` takes the last layer of each even group except the last
    group: PKD-skip of Patient KD (Sun et al. 2019, section 3). ``last`` is its other map, PKD-last. ``random`` is a
    control that keeps only the order of layers; it maps the student's last layer too, and needs a deeper teacher."""
    _require_depth(f"structure.pairs: {rule}", student, teacher)
    if rule == "random":
        if student == teacher:
            raise ValueError(
                f"structure.pairs: random has only one map of {teacher} layers to {student}; use last, or give pairs"
            )
        return tuple(enumerate(drawn_layers(range(1, teacher + 1), student, seed_of(seed)), 1))
    if student < 2:
        raise ValueError(
            f"structure.pairs: {rule} leaves out the student's last layer, and this student has no other; give pairs"
        )
    if rule == "last":
        return tuple((j, teacher - student + j) for j in range(1, student))
    return tuple((j, run[-1]) for j, run in enumerate(even_groups(student, teacher)[:-1], 1))


def _random(structure: Random, student: int, teacher: int) -> Random:
    """``structure`` with all its layers named, in rising order."""
    layers, own = _layer_numbers(structure.layers, teacher), _layer_numbers(structure.student_layers, student)
    if len(layers) < len(own):
        raise ValueError(
            f"structure.layers: has {len(layers)} teacher layers, but {len(own)} are to be drawn, one for each student "
            "layer; name more, or fewer in structure.student_layers"
        )
    return structure.model_copy(update={"layers": layers, "student_layers": own})


def _layer_numbers(layers: Literal["all"] | Sequence[int], depth: int) -> tuple[int, ...]:
    """The layers in rising order, each once; ``all`` means 1 to ``depth``."""
    return tuple(range(1, depth + 1)) if layers == "all" else tuple(sorted(set(layers)))


def _require_depth(rule: str, student: int, teacher: int) -> None:
    """Raise ValueError if the student is deeper than the teacher."""
    if student > teacher:
        raise ValueError(
            f"{rule} cannot divide {teacher} teacher layers among {student} student layers; name the layers instead"
        )


def _checked(structure: Matched, student: int, teacher: int) -> Structure:
    """``structure``, unless it names a layer that a model of these depths does not have: then ValueError."""
    for group in groups_of(structure):
        _require_layer("student", group.student, student)
        for layer in group.teacher:
            _require_layer("teacher", layer, teacher)
    return structure


def _require_layer(model: str, layer: int, depth: int) -> None:
    """Raise ValueError if a model of this depth has no such layer. ``model`` is student or teacher."""
    if layer > depth:
        raise ValueError(f"structure: the {model} has no layer {layer}; it has 0 (embeddings) to {depth}")


def check_store(structure: Structure, layers: Collection[int], pooling: str) -> None:
    """Raise ValueError if a store with these layers and this pooling lacks states that a resolved structure needs."""
    if isinstance(structure, NoLayers):
        return
    if pooling not in (structure.pooling, "both"):
        raise ValueError(f"structure.pooling: {structure.pooling}, but store.pooling is {pooling}; make them the same")
    lacking = [layer for layer in teacher_layers(groups_of(structure)) if layer not in layers]
    if lacking:
        named = ", ".join(map(str, lacking))
        raise ValueError(
            f"structure: needs layers {named} of the teacher, which store.layers leaves out; add them there"
        )
