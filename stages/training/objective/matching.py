"""The loss between pooled states of the student's layers and of the teacher's, and the projections that it learns.

Shapes: B rows, H the student's width, D the teacher's, K teacher layers in a group, C classes. All losses are one value
a row, as in ``specs.axes.losses``.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.specs.axes.losses import soft_cross_entropy, squared_error
from stages.specs.layer_map import LayerGroup, groups_of
from stages.specs.layers import (
    Attend,
    Concatenate,
    Matching,
    NoLayers,
    Outputs,
    Pick,
    Random,
    Relational,
    Structure,
    state_name,
)
from stages.training.objective.relations import Workers, relational_error

States = Mapping[int, Tensor]
"""The student's pooled states [B, H] by layer."""

TeacherOutputs = Mapping[str, Tensor]
"""The teacher's pooled states [B, D], or the logits [B, C] of the classifiers on its layers, by ``state_name``."""


class LayerMatcher(nn.Module):
    """The layer loss of a resolved structure, with its projections.

    Projections are trained with the student and stored in its checkpoints, but are not saved with the finished
    student. Their initial weights come from torch's generator. ``concatenate`` always projects the student's state;
    ``pick`` and ``attend`` only where the widths differ; ``random`` projects both sides; for ``outputs`` the projection
    is the classifier on a student layer; ``relational`` has none. ``log_temperatures`` [groups] are the logarithms of
    the learned temperatures of ``attend``, 0 at first; None where they are not learned.
    """

    def __init__(self, structure: Structure, student_width: int, teacher_width: int, outputs: int) -> None:
        """``outputs`` is C, the width of the student's logits."""
        super().__init__()
        self.structure = structure
        self.outputs = outputs
        groups = groups_of(structure)
        self.student_layers = tuple(sorted({group.student for group in groups}))
        student, teacher = _projections(structure, groups, student_width, teacher_width, outputs)
        # These two names are part of the checkpoint format.
        self.student, self.teacher = nn.ModuleList(student), nn.ModuleList(teacher)
        learned = isinstance(structure, Attend) and structure.temperature == "learned"
        self.log_temperatures = nn.Parameter(torch.zeros(len(groups))) if learned else None

    def forward(
        self,
        states: States,
        outputs: TeacherOutputs,
        groups: Sequence[LayerGroup],
        workers: Workers,
        temperature: float = 1.0,
    ) -> Tensor:
        """[B]: the layer loss of each row. ``groups`` are those of the current epoch (see ``groups_at``), and
        ``temperature`` is that of attention in it (see ``attention_temperature``)."""
        structure = self.structure
        match structure:
            case Pick() | Concatenate():
                return layer_error(self._projected(states, groups), concatenated(groups, outputs), structure)
            case Attend():
                projected = self._projected(states, groups)
                temperatures = self._temperatures(temperature, len(groups))
                targets = [
                    attended_state(h, stacked(group, outputs), structure, one)
                    for h, group, one in zip(projected, groups, temperatures, strict=True)
                ]
                return layer_error(projected, targets, structure)
            case Random():
                return self._random_error(states, outputs, groups, structure)
            case Outputs():
                student = self._projected(states, groups)
                teacher = [stacked(group, outputs) for group in groups]
                return outputs_error(student, teacher, structure.temperature)
            case Relational():
                (group,) = groups
                (layer,) = group.teacher
                return relational_error(states[group.student], outputs[state_name(layer)], structure, workers)
            case NoLayers():
                raise AssertionError("structure none has no layer loss")
            case _:
                assert_never(structure)

    @torch.no_grad()
    def largest_weights(
        self, states: States, outputs: TeacherOutputs, groups: Sequence[LayerGroup], temperature: float
    ) -> Tensor | None:
        """[B, groups]: the largest weight of each group's attention, row by row; None for a structure without
        attention. With 1, the row follows a single layer of the teacher."""
        if not isinstance(self.structure, Attend):
            return None
        temperatures = self._temperatures(temperature, len(groups))
        largest = [
            attention(attention_query(h, self.structure, one), stacked(group, outputs)).amax(-1)
            for h, group, one in zip(self._projected(states, groups), groups, temperatures, strict=True)
        ]
        return torch.stack(largest, dim=-1)

    def _temperatures(self, temperature: float, groups: int) -> Sequence[float | Tensor]:
        """The temperature of each group's attention, the same for all where it is not learned."""
        if self.log_temperatures is None:
            return [temperature] * groups
        return list((temperature * self.log_temperatures.exp()).unbind())

    def _projected(self, states: States, groups: Sequence[LayerGroup]) -> list[Tensor]:
        """The projected state of each group's student layer."""
        return [project(states[group.student]) for project, group in zip(self.student, groups, strict=True)]

    def _random_error(
        self, states: States, outputs: TeacherOutputs, groups: Sequence[LayerGroup], structure: Random
    ) -> Tensor:
        """[B]: ``unit_distance`` of the projected states; with ``joined``, of all layers end to end."""
        student, teacher = [states[group.student] for group in groups], concatenated(groups, outputs)
        if structure.joined:
            student, teacher = [torch.cat(student, dim=-1)], [torch.cat(teacher, dim=-1)]
        return unit_distance(
            [project(state) for project, state in zip(self.student, student, strict=True)],
            [project(state) for project, state in zip(self.teacher, teacher, strict=True)],
        )


def _projections(
    structure: Structure, groups: Sequence[LayerGroup], student: int, teacher: int, outputs: int
) -> tuple[list[nn.Module], list[nn.Module]]:
    """The projections of the student's states, and those of the teacher's. ``student``, ``teacher`` and ``outputs`` are
    the two widths and C."""
    match structure:
        case NoLayers() | Relational():
            return [], []
        case Pick() | Attend() if student == teacher:
            return [nn.Identity() for _ in groups], []
        case Pick() | Attend():
            return [nn.Linear(student, teacher) for _ in groups], []
        case Concatenate():
            return [nn.Linear(student, len(group.teacher) * teacher) for group in groups], []
        case Outputs():
            return [nn.Linear(student, outputs) for _ in groups], []
        case Random(joined=True, width=width):
            count = len(groups)
            return [nn.Linear(count * student, width)], [nn.Linear(count * teacher, width)]
        case Random(width=width):
            return [nn.Linear(student, width) for _ in groups], [nn.Linear(teacher, width) for _ in groups]
        case _:
            assert_never(structure)


def concatenated(groups: Sequence[LayerGroup], outputs: TeacherOutputs) -> list[Tensor]:
    """[B, K D] for each group: the states of its teacher layers end to end, in the group's order."""
    return [torch.cat([outputs[state_name(layer)] for layer in group.teacher], dim=-1) for group in groups]


def stacked(group: LayerGroup, outputs: TeacherOutputs) -> Tensor:
    """[B, K, D], or [B, K, C] for classifiers: the outputs of the group's teacher layers, stacked."""
    return torch.stack([outputs[state_name(layer)] for layer in group.teacher], dim=1)


def attention(state_BD: Tensor, teacher_BKD: Tensor) -> Tensor:
    """[B, K]: alpha_k = softmax_k(h . h_k), the weights of the group's teacher layers (ALP-KD, Passban et al. 2021)."""
    return torch.einsum("bd,bkd->bk", state_BD, teacher_BKD).softmax(-1)


def attention_query(state_BD: Tensor, structure: Attend, temperature: float | Tensor) -> Tensor:
    """[B, D]: the state divided by ``temperature``, and with ``scaled`` by the square root of D, so that its products
    with the teacher's states are. ``detached`` stops the gradient into the state, not that into the temperature."""
    query_BD = state_BD.detach() if structure.detached else state_BD
    if structure.scaled:
        query_BD = query_BD / query_BD.shape[-1] ** 0.5
    if isinstance(temperature, Tensor) or temperature != 1:
        query_BD = query_BD / temperature
    return query_BD


def attended_state(
    state_BD: Tensor, teacher_BKD: Tensor, structure: Attend, temperature: float | Tensor = 1.0
) -> Tensor:
    """[B, D]: sum_k alpha_k h_k, the teacher state that a student layer follows (ALP-KD, Passban et al. 2021).

    ``temperature`` divides the dot products, and ``scaled`` divides them by the square root of D; without either, the
    softmax gives most rows a single layer. ``detached`` stops the student's gradient through alpha: the student learns
    to match the target, not to change which layers it attends to. A learned temperature is trained all the same.
    """
    query_BD = attention_query(state_BD, structure, temperature)
    return torch.einsum("bk,bkd->bd", attention(query_BD, teacher_BKD), teacher_BKD)


def layer_error(student: Sequence[Tensor], teacher: Sequence[Tensor], structure: Matching) -> Tensor:
    """[B]: the squared error of each group, mean over its dimensions, then mean (or, with ``over: sum``, the sum) over
    groups. ``normalised`` first scales both sides to length 1, row by row.

    Averaged over rows, the mean over groups equals ``mse_loss`` of all groups concatenated, as in the code of Patient
    KD (Sun et al. 2019). Eq. 7 of that paper sums over layers and dimensions instead: a weight there is (layers x
    dimensions) times the same weight here. CKD (Wu et al. 2020, Why Skip If You Can Combine) takes the mean too; ALP-KD
    sums over layers.
    """
    errors = []
    for state, target in zip(student, teacher, strict=True):
        if structure.normalised:
            errors.append(squared_error(functional.normalize(state, dim=-1), functional.normalize(target, dim=-1)))
        else:
            errors.append(squared_error(state, target))
    by_group = torch.stack(errors)
    return by_group.sum(0) if structure.over == "sum" else by_group.mean(0)


def unit_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """[B]: |s / |s| - t / |t||^2 = 2 - 2 cos(s, t), summed over groups (RAIL-KD, Haidar et al. 2022)."""
    errors = [
        (functional.normalize(state, dim=-1) - functional.normalize(target, dim=-1)).square().sum(-1)
        for state, target in zip(student, teacher, strict=True)
    ]
    return torch.stack(errors).sum(0)


def outputs_error(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
    """[B]: the distance of the logits z [B, C] of the classifier on each student layer to sum_k alpha_k z_k over the
    classifiers on the teacher's layers [B, K, C], alpha = softmax_k(z . z_k): tau^2 KL, or the squared error where C
    is 1; mean over groups.

    After Universal-KD (Wu et al. 2021: "match in the output space via attention-based layer projection"); the paper
    leaves the details open.
    """
    errors = []
    for student_BC, teacher_BKC in zip(student, teacher, strict=True):
        target_BC = torch.einsum("bk,bkc->bc", attention(student_BC, teacher_BKC), teacher_BKC)
        regression = student_BC.shape[1] == 1
        errors.append(
            squared_error(student_BC, target_BC)
            if regression
            else soft_cross_entropy(student_BC, target_BC, temperature)
        )
    return torch.stack(errors).mean(0)
