"""Layer maps A(j): the teacher layers that student layer j follows, and the rules that give them.

Pure arithmetic on the depths of two models. Which of it a structure uses is in ``layers``. Needs the standard library
only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stages.specs.seeds import seed_of

Pair = tuple[int, int]
"""A layer of the student and the layer of the teacher that it follows."""
GroupRule = Literal["even", "overlapping", "all"]
PairRule = Literal["even", "last", "random", "final", "spread"]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """A(j): student layer ``student`` follows these layers of the teacher."""

    student: int
    teacher: tuple[int, ...]


# --- what groups come to --------------------------------------------------------------------------


def teacher_layers(groups: Collection[LayerGroup]) -> tuple[int, ...]:
    """The teacher's layers in these groups, in rising order."""
    return tuple(sorted({layer for group in groups for layer in group.teacher}))


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


def check_depths(groups: Collection[LayerGroup], student: int, teacher: int) -> None:
    """Raise ValueError if a group names a layer that a student or a teacher of this depth does not have."""
    for group in groups:
        _require_layer("student", group.student, student)
        for layer in group.teacher:
            _require_layer("teacher", layer, teacher)


def check_one_width(groups: Collection[LayerGroup], widths: Sequence[int] | Mapping[int, int]) -> None:
    """Raise ValueError if the teacher's layers in a group differ in width, so that no mean over them is defined.
    ``widths`` are those of the teacher's layers, by their numbers."""
    for group in groups:
        found = sorted({widths[layer] for layer in group.teacher})
        if len(found) > 1:
            raise ValueError(
                f"structure: layers {list(group.teacher)} of the teacher are {found} wide; group layers of one width, "
                "or use kind: concatenate"
            )


def _require_layer(model: str, layer: int, depth: int) -> None:
    """Raise ValueError if a model of this depth has no such layer. ``model`` is student or teacher."""
    if layer > depth:
        raise ValueError(f"structure: the {model} has no layer {layer}; it has 0 (embeddings) to {depth}")


def token_state_name(layer: int) -> str:
    """The name of a layer's states at every token, in a store of the part ``tokens`` and in the outputs of a
    ``Signal``."""
    return f"tokens_{layer:02d}"


def score_name(layer: int) -> str:
    """The name of a layer's attention scores, in a store of the part ``scores`` and in the outputs of a ``Signal``."""
    return f"scores_{layer:02d}"


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


def groups_by_rule(rule: GroupRule, student: int, teacher: int) -> tuple[tuple[int, ...], ...]:
    """A(1) .. A(m) by this rule. Raises ValueError if it gives no map at these depths."""
    match rule:
        case "all":
            return (tuple(range(1, teacher + 1)),) * student
        case "even":
            _require_depth("structure.groups: even", student, teacher)
            return even_groups(student, teacher)
        case "overlapping":
            _require_depth("structure.groups: overlapping", student, teacher)
            return overlapping_groups(student, teacher)


def pairs_by_rule(rule: PairRule, student: int, teacher: int, seed: int) -> tuple[Pair, ...]:
    """(student layer, teacher layer) by this rule. ``even`` takes the last layer of each even group except the last
    group: PKD-skip of Patient KD (Sun et al. 2019, section 3). ``last`` is its other map, PKD-last. ``random`` is a
    control that keeps only the order of layers; it maps the student's last layer too, and needs a deeper teacher.
    ``final`` maps the last layer of each model, as DistilBERT does; ``spread`` all layers from the embeddings to the
    last: (i, floor(i n / m)), which is g(i) of TinyBERT where n is a multiple of m. Raises ValueError if the rule gives
    no map at these depths."""
    if rule == "final":
        return ((student, teacher),)
    _require_depth(f"structure.pairs: {rule}", student, teacher)
    if rule == "random":
        if student == teacher:
            raise ValueError(
                f"structure.pairs: random has only one map of {teacher} layers to {student}; use last, or give pairs"
            )
        return tuple(enumerate(drawn_layers(range(1, teacher + 1), student, seed_of(seed)), 1))
    if rule == "spread":
        return tuple((layer, layer * teacher // student) for layer in range(student + 1))
    if student < 2:
        raise ValueError(
            f"structure.pairs: {rule} leaves out the student's last layer, and this student has no other; give pairs"
        )
    if rule == "last":
        return tuple((j, teacher - student + j) for j in range(1, student))
    return tuple((j, run[-1]) for j, run in enumerate(even_groups(student, teacher)[:-1], 1))


def uniform_pairs(student: int, teacher: int) -> tuple[Pair, ...]:
    """(i, i n / m) for i from 0 (the embeddings) to m: g(i) of TinyBERT (Jiao et al. 2020, section 4). Raises
    ValueError unless the teacher's depth n is a multiple of the student's depth m."""
    if teacher % student:
        raise ValueError(
            f"structure.pairs: uniform needs a teacher whose depth is a multiple of the student's, and they have "
            f"{teacher} and {student} layers; give pairs, such as [[0, 0], [{student}, {teacher}]]"
        )
    return tuple((layer, layer * teacher // student) for layer in range(student + 1))


def _require_depth(rule: str, student: int, teacher: int) -> None:
    """Raise ValueError if the student is deeper than the teacher."""
    if student > teacher:
        raise ValueError(
            f"{rule} cannot divide {teacher} teacher layers among {student} student layers; name the layers instead"
        )


def layer_numbers(layers: Literal["all"] | Sequence[int], depth: int) -> tuple[int, ...]:
    """The layers in rising order, each once; ``all`` means 1 to ``depth``."""
    return tuple(range(1, depth + 1)) if layers == "all" else tuple(sorted(set(layers)))


def drawn_layers(layers: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """``count`` random ones of ``layers``, in rising order. The same seed gives the same layers on every machine."""
    return tuple(sorted(sorted(layers, key=lambda layer: seed_of(seed, layer))[:count]))
